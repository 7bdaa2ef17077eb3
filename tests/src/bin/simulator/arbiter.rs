//! What lies between the tasks and the arbiter's ledger: messages that are late, and orders that
//! are seen late, of which only the latest is.

use crate::planted::Bug;
use crate::process::NEVER;
use crate::world::{Flow, World, broken};
use llamactld::arbiter::{Orders, ToArbiter};

/// A message under way to the arbiter; without a model it comes from the daemon's own life.
#[derive(Debug)]
pub(crate) struct Mail {
    model: Option<i64>,
    message: ToArbiter,
}

impl World {
    /// Tells the arbiter; it will be delivered at some time.
    pub(crate) fn tell(&mut self, model: Option<i64>, message: ToArbiter) {
        let soon = self.now + self.rng.u64(0..6);
        if let Some(daemon) = &mut self.daemon {
            daemon.mail.push_back(Mail { model, message });
            daemon.deliver = daemon.deliver.min(soon);
        }
    }

    /// Delivers one message. Those of one sender come in their order, those of several in any; what
    /// the daemon itself says comes after all that was said before and before all that was after.
    pub(crate) fn deliver(&mut self) -> Flow {
        let again = self.now + self.rng.u64(0..6);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let of_daemon = daemon.mail.iter().position(|mail| mail.model.is_none());
        let choice = match of_daemon {
            Some(0) => 0,
            limit => {
                let any = self.rng.usize(0..limit.unwrap_or(daemon.mail.len()).max(1));
                let sender = daemon.mail.get(any).and_then(|mail| mail.model);
                daemon.mail.iter().position(|mail| mail.model == sender).unwrap_or(0)
            }
        };
        let Some(Mail { message, .. }) = daemon.mail.remove(choice) else { return Ok(()) };
        daemon.deliver = if daemon.mail.is_empty() { NEVER } else { again };
        let runs = daemon.ledger.runs();
        let is_closed = daemon.closed;
        daemon.closed |= message == ToArbiter::Close;
        let is_want = matches!(message, ToArbiter::Want { .. });
        let text = self.trace.then(|| format!("{message:?}"));
        let frees = matches!(message, ToArbiter::Gone { .. });
        let mut news = match Bug::is_heard(self.bug, &message) {
            true => daemon.ledger.step(message),
            false => vec![],
        };
        let (ledger, max) = (&daemon.ledger, self.bounds.max_running);
        let (checked, more) = (ledger.check(), ledger.runs() > runs);
        let too_many = is_want && more && max.is_some_and(|max| ledger.runs() > max as usize);
        self.say(|| format!("arbiter: {} ─▶ {news:?}", text.unwrap_or_default()));
        if let Err(what) = checked {
            return broken!("the ledger: {what}");
        }
        if too_many {
            return broken!("more run than may");
        }
        Bug::orders(self.bug, frees, &mut news);
        if is_closed && news.iter().any(|(_, orders)| orders.admit.is_some()) {
            return broken!("somebody is admitted after the end began");
        }
        for (model, orders) in news {
            self.order(model, orders);
        }
        Ok(())
    }

    fn order(&mut self, id: i64, orders: Orders) {
        let seen = self.now + self.rng.u64(0..20);
        let Some(model) = self.models.iter_mut().find(|model| model.id == id) else { return };
        let Some(task) = &mut model.task else { return };
        task.orders = orders;
        task.obey = task.obey.min(seen);
    }
}
