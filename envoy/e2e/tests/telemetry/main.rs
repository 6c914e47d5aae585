//! What operators see: the metrics of the finished filter in a real Envoy, as a real Prometheus reads them, and the
//! dashboard and the alerts that are made of them.

mod alerts;
mod dashboard;
mod exposition;
mod names;
mod scraped;
mod series;
mod traffic;
