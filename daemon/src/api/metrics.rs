//! `metrics.*`

use super::registration::{Broadcast, Caller, Source};
use super::sampling_stopped;
use crate::api::app::App;
use llamactl_protocol::Failure;
use llamactl_protocol::metrics::{MetricsFollow, MetricsSample, Sample};
use std::sync::Arc;

pub(super) async fn sample(app: &App, _: Caller, _: MetricsSample) -> Result<Sample, Failure> {
    Ok((*app.metrics.latest().await.map_err(sampling_stopped)?).clone())
}

pub(super) async fn follow(
    app: &App,
    _: Caller,
    _: MetricsFollow,
) -> Result<impl Source<Item = Sample> + use<>, Failure> {
    let (latest, samples) = app.metrics.subscribe().await.map_err(sampling_stopped)?;
    Ok(Broadcast::new([item(&latest)], samples, |sample: Arc<Sample>| Some(item(&sample))))
}

fn item(sample: &Arc<Sample>) -> (Option<String>, Sample) {
    (Some(sample.at_ms.to_string()), Sample::clone(sample))
}
