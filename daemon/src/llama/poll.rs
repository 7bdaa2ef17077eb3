//! Asking a llama-server how it is.

use super::client::{Client, Visit};
use super::counters::{self, Reading, Slot};
use crate::clock::now_ms;
use llama_http::{HttpError, StatusCode};
use llamactl_protocol::metrics::LlamaSample;
use llamactl_protocol::server::InForce;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What `/health` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nobody listens at the server's address or socket.
    Unreachable,
    /// Somebody listens and does not answer in time: busy, stopped, or hung.
    Silent,
    /// It is loading the model.
    Loading,
    /// It answers requests.
    Healthy,
    /// Somebody answers there who is not the process we started, as far as can be told.
    Foreign,
    /// It has unloaded the model and will load it at the next request.
    Asleep,
}

/// What a look at a ready server showed.
#[derive(Clone, Debug)]
pub struct Looked {
    /// What `/health` said.
    pub seen: Seen,
    /// What it does; `None` when it does not answer or sleeps.
    pub sample: Option<LlamaSample>,
    /// Whether requests are at work; `None` when it does not say.
    pub works: Option<bool>,
    /// A number that is another one after each token and step of a prompt; `None` when it does not
    /// say.
    pub progress: Option<u64>,
}

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    since: Instant,
}

impl Pace {
    /// The pace of a server that was just started.
    #[must_use]
    pub fn of_start() -> Pace {
        Pace { since: Instant::now() }
    }

    /// How long to wait before asking again whether it is ready. Most models that load at all
    /// quickly do so within two seconds, and asking costs 50 µs.
    #[must_use]
    pub fn wait(&self) -> Duration {
        match self.since.elapsed().as_millis() {
            0..2_000 => Duration::from_millis(20),
            2_000..20_000 => Duration::from_millis(100),
            _ => Duration::from_millis(250),
        }
    }

    /// How long to wait between two looks at a server that is ready. Two seconds, never less:
    /// see the module's first page.
    pub const READY: Duration = Duration::from_secs(2);

    /// How long one that is quiet is left alone without a sign of work.
    pub const QUIET: Duration = Duration::from_secs(30);

    /// The same for one that does not log its requests: short ones give no sign.
    pub const QUIET_WITHOUT_LOG: Duration = Duration::from_secs(10);
}

const HEALTH_LIMIT: Duration = Duration::from_secs(1);
const READ_LIMIT: Duration = Duration::from_secs(2);

/// The poller of one server.
#[derive(Debug)]
pub struct Poll {
    client: Arc<Client>,
    /// The server may unload its model by itself: then `/slots` and `/metrics` would wake it.
    may_sleep: bool,
    before: Option<(Reading, Instant)>,
    sample: Option<LlamaSample>,
    /// Whether it worked at the last look, or before it.
    worked: bool,
    /// Nothing was at work twice.
    is_quiet: bool,
    /// The most tokens that were seen generated.
    generated: Option<u64>,
}

impl Poll {
    /// A poller of a server.
    #[must_use]
    pub fn new(client: Arc<Client>, may_sleep: bool) -> Poll {
        // At first there is no reading to compare with, so that one look says little.
        let (before, sample, generated) = (None, None, None);
        Poll { client, may_sleep, before, sample, worked: true, is_quiet: false, generated }
    }

    /// Whether it may be left alone until there is a sign of work.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Asks whether it answers for the first time: what answers must be the process we started.
    pub async fn first_health(&self) -> Seen {
        match health(&mut self.client.visit()).await {
            Seen::Healthy if !self.client.is_its_own() => Seen::Foreign,
            seen => seen,
        }
    }

    /// Asks a ready server how it is and what it does. `worked`: there were signs of work since the
    /// last look.
    pub async fn look(&mut self, worked: bool) -> Looked {
        let looked = self.look_closely(worked).await;
        let works = worked || looked.works == Some(true);
        let answers = matches!(looked.seen, Seen::Healthy | Seen::Asleep);
        self.is_quiet = answers && !works && !std::mem::replace(&mut self.worked, works);
        self.sample.clone_from(&looked.sample);
        looked
    }

    async fn look_closely(&mut self, worked: bool) -> Looked {
        let client = Arc::clone(&self.client);
        let mut visit = client.visit();
        let nothing = |seen| Looked { seen, sample: None, works: None, progress: None };
        let seen = health(&mut visit).await;
        if seen != Seen::Healthy {
            return nothing(seen);
        }
        if self.may_sleep {
            if is_sleeping(&mut visit).await != Some(false) {
                self.before = None;
                return nothing(Seen::Asleep);
            }
            // To be asked for its slots would keep it awake.
            if !worked && !self.worked {
                let sample = self.sample.clone();
                return Looked { seen, sample, works: Some(false), progress: None };
            }
        }
        let counters = counters(&mut visit).await;
        let now = Reading { counters, slots: slots(&mut visit).await };
        let at = Instant::now();
        let before = self.before.as_ref();
        let before =
            before.map(|(reading, then)| (reading, at.duration_since(*then).as_secs_f64()));
        let mut sample = counters::sample(now_ms(), before, &now);
        // A high-water mark: see `Reading::generated`.
        self.generated = sample.generated_tokens.max(self.generated);
        sample.generated_tokens = sample.generated_tokens.and(self.generated);
        let (works, progress) = (now.works(), now.progress());
        self.before = Some((now, at));
        Looked { seen, sample: Some(sample), works, progress }
    }
}

async fn health(visit: &mut Visit<'_>) -> Seen {
    match visit.get("/health", HEALTH_LIMIT).await {
        Ok((StatusCode::OK, _)) => Seen::Healthy,
        Ok(_) => Seen::Loading,
        Err(HttpError::Connect(_)) => Seen::Unreachable,
        Err(_) => Seen::Silent,
    }
}

async fn counters(visit: &mut Visit<'_>) -> Option<counters::Counters> {
    let (status, body) = visit.get("/metrics", READ_LIMIT).await.ok()?;
    (status == StatusCode::OK).then(|| counters::parse_metrics(&String::from_utf8_lossy(&body)))
}

async fn is_sleeping(visit: &mut Visit<'_>) -> Option<bool> {
    Some(props(visit).await?.is_sleeping.unwrap_or(false))
}

/// How many slots are at work; `None` when the server does not say.
pub async fn busy(client: &Client) -> Option<u32> {
    counters::busy(&slots(&mut client.visit()).await?)
}

/// What a ready server reports to be using.
pub async fn in_force(client: &Client) -> Option<InForce> {
    let props = props(&mut client.visit()).await?;
    Some(InForce {
        context_tokens: props.default_generation_settings.and_then(|settings| settings.n_ctx),
        slots: props.total_slots,
        build: props.build_info,
    })
}

async fn slots(visit: &mut Visit<'_>) -> Option<Vec<Slot>> {
    let (status, body) = visit.get("/slots", READ_LIMIT).await.ok()?;
    (status == StatusCode::OK).then(|| serde_json::from_slice(&body).ok())?
}

#[derive(Deserialize)]
struct Props {
    total_slots: Option<u32>,
    build_info: Option<String>,
    is_sleeping: Option<bool>,
    default_generation_settings: Option<GenerationSettings>,
}

#[derive(Deserialize)]
struct GenerationSettings {
    n_ctx: Option<u64>,
}

async fn props(visit: &mut Visit<'_>) -> Option<Props> {
    let (status, body) = visit.get("/props", READ_LIMIT).await.ok()?;
    (status == StatusCode::OK).then(|| serde_json::from_slice(&body).ok())?
}
