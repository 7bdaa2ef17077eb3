//! `metrics.follow` by columns: what was measured before, then each step as it is over.
//!
//! ```text
//!   cursor ─▶ ask what is behind it ─▶ steps that are over ─▶ columns, or rows of the columns before
//!      ▲        ╰ nothing: wait for the next row                │
//!      ╰──────────── behind the last of them ◀──────────────────╯
//! ```
//!
//! Nothing is sampled for a follower and nothing queued: it reads what is kept, and a slow one reads later. So
//! what a replay says and what comes live are the same rows, none of them twice.

use super::metrics::{AllLabels, MOST_NUMBERS, unread};
use super::registration::{Emission, Source};
use crate::api::app::App;
use crate::metrics::INTERVAL;
use crate::metrics::history::{Answer, Column, From, History, LONG_GAP, Question, Wanted};
use llamactl_protocol::Failure;
use llamactl_protocol::metrics::{Measured, MetricsFollow, MetricsRow, Stat};
use llamactl_protocol::stream::Missed;
use std::collections::VecDeque;
use tokio::sync::watch;

/// The most that is replayed unasked by a cursor.
const REPLAY_MS: u64 = 600_000;
/// The longest interval.
const LONGEST_MS: u64 = 3_600_000;

/// A follower of columns.
pub(super) struct Following {
    history: History,
    labels: AllLabels,
    wanted: Wanted,
    step_ms: i64,
    latest: watch::Receiver<i64>,
    /// Everything up to this key was told.
    cursor: i64,
    /// The end of the last step that was told.
    told_until_ms: i64,
    /// The columns of the rows that are told; `None` before the first.
    told: Option<Vec<Column>>,
    /// The cursor asked for is of no boot that is known: nobody knows how much is missing.
    is_foreign: bool,
    queue: VecDeque<Emission<Measured>>,
}

/// How long one sample stands for.
fn interval_ms() -> i64 {
    i64::try_from(INTERVAL.as_millis()).unwrap_or(1000)
}

impl Following {
    pub(super) async fn new(
        app: &App,
        wanted: Wanted,
        follow: &MetricsFollow,
    ) -> Result<Following, Failure> {
        let history = app.metrics.history().clone();
        let mut latest = history.latest();
        // The state now is the first thing to tell, so there must be one.
        if latest.wait_for(|at| *at > 0).await.is_err() {
            return Err(super::sampling_stopped(crate::metrics::Stopped));
        }
        let seconds = follow.interval_ms.unwrap_or(0).min(LONGEST_MS).div_ceil(1000).max(1);
        let step_ms = i64::try_from(seconds * 1000).unwrap_or(1000);
        let now = *latest.borrow_and_update();
        let replay_ms = follow.replay_ms.unwrap_or(0).min(REPLAY_MS).cast_signed();
        let over_ms = (history.wall_ms(now) + interval_ms()).div_euclid(step_ms) * step_ms;
        let after = follow.after.as_ref().map(|after| after.parse::<i64>().ok());
        let from_ms = follow.from_ms.filter(|_| after.is_none());
        let from_ms = from_ms.unwrap_or(over_ms - replay_ms.max(step_ms));
        let begin = history.key_at(from_ms) - 1;
        // A step that is over early ends behind the last row.
        let is_known = |after: &i64| history.knows(*after) && *after <= now + step_ms;
        let known = after.flatten().filter(is_known);
        Ok(Following {
            labels: AllLabels::new(app),
            wanted,
            step_ms,
            latest,
            cursor: known.unwrap_or(begin),
            told_until_ms: i64::MIN,
            told: None,
            is_foreign: after.is_some() && known.is_none(),
            queue: VecDeque::new(),
            history,
        })
    }

    /// Tells what of an answer is over.
    async fn tell(&mut self, answer: &Answer) {
        let (start_ms, step_ms) = answer.grid();
        let last_ms = answer.last_ms.unwrap_or(start_ms);
        let over = (last_ms + interval_ms() - start_ms).div_euclid(step_ms);
        let over = usize::try_from(over).unwrap_or(0).min(answer.count());
        // What a step before has told is told already: it may have been over early.
        let told = (self.told_until_ms.max(start_ms) - start_ms).div_euclid(step_ms);
        let first = usize::try_from(told).unwrap_or(0).min(over);
        // A long time without a row is told by a later beginning.
        let gap = usize::try_from(LONG_GAP).unwrap_or(usize::MAX);
        let mut empty = 0;
        let is_long_gap = |step: &usize| {
            empty = if answer.has_sample(*step) { 0 } else { empty + 1 };
            empty > gap
        };
        let over = (first..over).find(is_long_gap).map_or(over, |step| step - gap);
        if first >= over && self.told.is_some() {
            return;
        }
        let end_ms = start_ms + step_ms * i64::try_from(over).unwrap_or(0);
        if over > first {
            self.told_until_ms = end_ms;
            self.cursor = self.cursor.max(self.history.key_at(end_ms) - 1);
        }
        let cursor = Some(self.cursor.to_string());
        let rows = answer.columns(first..over);
        let columns: Vec<Column> = rows.iter().map(|(column, _)| column.clone()).collect();
        if self.told.as_ref() != Some(&columns) {
            let mut data = self.labels.columns(answer, first..over).await;
            (data.next, data.cursor) = (None, cursor.clone());
            self.queue.push_back(Emission::Snapshot { cursor, data: Measured::Columns(data) });
            self.told = Some(columns);
            return;
        }
        for (row, step) in (first..over).enumerate() {
            let at_ms = start_ms + step_ms * i64::try_from(step).unwrap_or(0);
            let value = |values: &Vec<Option<f64>>| values.get(row).copied().flatten();
            let values = rows.iter().map(|(_, values)| value(values)).collect();
            let cursor = Some((self.history.key_at(at_ms + step_ms) - 1).to_string());
            let data = Measured::Row(MetricsRow { at_ms, values });
            self.queue.push_back(Emission::Change { cursor, data });
        }
    }
}

impl Source for Following {
    type Item = Measured;

    async fn next(&mut self) -> Emission<Measured> {
        if std::mem::take(&mut self.is_foreign) {
            let missed = Missed { items: None, bytes: None };
            return Emission::Missed { cursor: Some(self.cursor.to_string()), missed };
        }
        loop {
            if let Some(emission) = self.queue.pop_front() {
                return emission;
            }
            let now = *self.latest.borrow_and_update();
            let now_ms = self.history.wall_ms(now);
            let over_ms = (now_ms + interval_ms()).div_euclid(self.step_ms) * self.step_ms;
            if self.told.is_none() || over_ms > self.told_until_ms {
                let question = Question {
                    wanted: self.wanted.clone(),
                    from: From::Behind(self.cursor),
                    until_ms: over_ms,
                    step_ms: self.step_ms,
                    stat: Stat::Mean,
                    most_numbers: MOST_NUMBERS,
                };
                let answer = match self.history.ask(question).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        return Emission::failed(Some(self.cursor.to_string()), unread(error));
                    }
                };
                let lost = u64::try_from(answer.gone_ms / self.step_ms).unwrap_or(0);
                self.tell(&answer).await;
                if lost > 0 {
                    let missed = Missed { items: Some(lost), bytes: None };
                    return Emission::Missed { cursor: Some(self.cursor.to_string()), missed };
                }
                if !self.queue.is_empty() || answer.next_ms.is_some() {
                    continue;
                }
            }
            if self.latest.changed().await.is_err() {
                return Emission::done(Some(self.cursor.to_string()));
            }
        }
    }
}
