//! Where Prometheus reads the metrics: HTTP at an address that only this machine has, or at a socket.
//!
//! ```text
//!   metrics.listen ─▶ bound? ── no ──▶ said, tried again
//!                       │ yes
//!                       ▼
//!   at most 16 at a time, ten seconds each ─▶ GET /metrics ─▶ the text of the last sample
//! ```
//!
//! Nothing here is waited for: a daemon that cannot listen runs on and says so, and whoever connects
//! costs a bounded amount of memory and time. It looks at no server and samples nothing.

mod answer;
mod listener;

pub use listener::{Access, Left, Listener};

use crate::api::Exposition;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::Stream;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// So many are answered at a time; who comes then waits to be accepted.
const CONNECTIONS: u32 = 16;
/// How long one may take from its first byte to the last of its answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// How often what stands in the way is looked at again, and whether the socket is in its place.
const RETRY: Duration = Duration::from_secs(2);

/// How long readers that were accepted have for their answers when no more are.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// Serves what `exposition` makes until `stop`, at what the program before left where it listens there. Why
/// it cannot is said in `problem`. What listens in the end comes out: who connects then waits in its queue.
pub async fn run(
    access: Access,
    left: Option<Listener>,
    exposition: Exposition,
    problem: watch::Sender<Option<String>>,
    stop: CancellationToken,
) -> Option<Listener> {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let mut left = left.and_then(|listener| listener.at(&access));
    loop {
        let bound = match left.take() {
            Some(listener) => Ok(listener),
            None => stop.run_until_cancelled(bind(&access)).await?,
        };
        match bound {
            Ok(listener) => {
                tell(&problem, &access, None);
                tracing::info!(address = %access.address, "metrics can be read");
                let served = serve(&listener, &exposition, &places);
                if stop.run_until_cancelled(served).await.is_none() {
                    let all = places.acquire_many(CONNECTIONS);
                    let _ = tokio::time::timeout(LAST_ANSWERS, all).await;
                    return Some(listener);
                }
            }
            Err(why) => tell(&problem, &access, Some(why)),
        }
        stop.run_until_cancelled(tokio::time::sleep(RETRY)).await?;
    }
}

async fn bind(access: &Access) -> Result<Listener, String> {
    let access = access.clone();
    let bound = tokio::task::spawn_blocking(move || Listener::bind(&access)).await;
    bound.map_err(|error| error.to_string()).flatten()
}

/// Says once why nobody can read the metrics.
fn tell(problem: &watch::Sender<Option<String>>, access: &Access, why: Option<String>) {
    problem.send_if_modified(|said| {
        if let Some(why) = why.as_ref().filter(|_| said.is_none()) {
            tracing::warn!(address = %access.address, why, "metrics cannot be read there");
        }
        let is_news = *said != why;
        *said = why;
        is_news
    });
}

/// Answers whoever connects, until the socket is in its place no more.
async fn serve(listener: &Listener, exposition: &Exposition, places: &Arc<Semaphore>) {
    let mut lost = pin!(listener.lost());
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut lost => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors: others give some back.
                tracing::debug!(%error, "a reader of metrics could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let exposition = exposition.clone();
        tokio::spawn(async move {
            // Whoever is slower, or breaks off, asks again.
            let _ = tokio::time::timeout(DEADLINE, answer_one(stream, exposition)).await;
            drop(place);
        });
    }
}

/// Answers the one request of a connection.
async fn answer_one(stream: Box<dyn Stream>, exposition: Exposition) {
    let service = service_fn(|request| answer::answer(request, exposition.clone()));
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a reader of metrics went");
    }
}
