//! `metrics.*`

use super::sampling_stopped;
use crate::api::app::App;
use crate::rpc::{Broadcast, Peer, Service, Source};
use llamactl_protocol::Failure;
use llamactl_protocol::metrics::{MetricsFollow, MetricsSample, Sample};
use std::sync::Arc;

pub(super) fn register(service: Service<App>) -> Service<App> {
    service.on(sample).stream(follow)
}

async fn sample(app: Arc<App>, _: Peer, _: MetricsSample) -> Result<Sample, Failure> {
    Ok((*app.metrics.latest().await.map_err(sampling_stopped)?).clone())
}

async fn follow(
    app: Arc<App>,
    _: Peer,
    _: MetricsFollow,
) -> Result<impl Source<Item = Sample>, Failure> {
    let (latest, samples) = app.metrics.subscribe().await.map_err(sampling_stopped)?;
    Ok(Broadcast::new([item(&latest)], samples, |sample: Arc<Sample>| Some(item(&sample))))
}

fn item(sample: &Arc<Sample>) -> (Option<String>, Sample) {
    (Some(sample.at_ms.to_string()), Sample::clone(sample))
}
