//! `tenantgate bridge` as a process, between a real Redis and Envoys that answer as they are told. Needs a
//! redis-server: `make redis`.

mod configuration;
mod delivery;
mod redis;
mod subscription;
mod tls;
mod world;
