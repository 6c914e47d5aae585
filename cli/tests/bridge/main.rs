//! `tenantgate bridge` as a process, between a real Redis and Envoys: mostly ones that answer as they are told,
//! in `envoy` real ones. Needs a redis-server, and for those the filter and Envoy: `make redis wasm envoy`.

mod configuration;
mod delivery;
mod envoy;
mod redis;
mod subscription;
mod tls;
mod world;
