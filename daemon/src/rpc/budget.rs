//! The bytes that lines and answers may cost: of each user in all, and of each connection besides.
//!
//! ```text
//!   a line begins ─▶ 4 KiB free, then room for 64 KiB, then for the longest line there may be
//!                    ╰─ three times its bytes, until its call has ended
//!   a call begins ─▶ room for the longest answer it has ─▶ what it came to ──▶ until it is written
//!                        ╰─ of the user's, else what this connection has for itself
//! ```
//!
//! Room is taken before what it is for is made, and given back when that is gone. What is waited for
//! is had by who waits for nothing of the kind: a line waits for a first step while it holds nothing,
//! for the rest while it holds its first step, and its call for an answer's room while it holds both.
//! An answer's room is never enlarged while it is held. A call that fits what its connection has for
//! itself never waits behind the same user's others.

use super::limits::Limits;
use super::session::lock;
use crate::os::memory;
use futures_util::{pending, poll};
use llamactl_protocol::{Answer, Failure, Kind};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room of a [`Answer::Small`].
const SMALL_BYTES: u32 = 16 << 10;
/// The room of a [`Answer::Page`].
const PAGE_BYTES: u32 = 256 << 10;
/// What a page is given of its connection's own when its user's room is taken.
const SHORT_PAGE_BYTES: u32 = 32 << 10;
/// The first step by which a line grows beyond what is free, in bytes.
pub(super) const STEP_BYTES: u32 = 64 << 10;
/// What a line costs for each of its bytes: the line, and what is made of it.
const COST: u32 = 3;
/// Calls that take long and run at once, of all users. One of each.
const LONG_CALLS: usize = 2;
/// Memory is given back to the system at the end of what has taken this much of it, and when the last
/// connection closes after what took less.
const FLOOD_BYTES: u64 = 8 << 20;
const VISIT_BYTES: u64 = 1 << 20;

/// Who has connections open, and what they have taken.
#[derive(Debug)]
pub(super) struct Census {
    users: Mutex<HashMap<u32, User>>,
    totals: Arc<Totals>,
    long_calls: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct User {
    connections: usize,
    budget: Arc<UserBudget>,
}

/// What the connections of one user share.
#[derive(Debug)]
struct UserBudget {
    steps: Arc<Semaphore>,
    /// The other half of what lines may cost: for those longer than a step.
    rests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    long_calls: Arc<Semaphore>,
}

/// What all users have taken.
#[derive(Debug, Default)]
struct Totals {
    held_bytes: AtomicU64,
    since_given_back_bytes: AtomicU64,
}

/// What one connection may take. It counts as open until this and its copies are dropped.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    user: Arc<UserBudget>,
    /// What the connection has for itself.
    own: Arc<Semaphore>,
    own_bytes: u32,
    /// What a line costs that is longer than a step.
    rest_bytes: u32,
    whole_bytes: u32,
    /// How many messages of this connection hold room of the user's.
    holders: Arc<AtomicUsize>,
    totals: Arc<Totals>,
    all_long_calls: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    _open: Arc<Open>,
}

/// One open connection of a user.
#[derive(Debug)]
struct Open {
    census: Arc<Census>,
    uid: u32,
}

/// Nobody gives room any more: the connection is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Census {
    pub(super) fn new() -> Arc<Census> {
        Arc::new(Census {
            users: Mutex::default(),
            totals: Arc::default(),
            long_calls: Arc::new(Semaphore::new(LONG_CALLS)),
            turns: Arc::new(Semaphore::new(1)),
        })
    }

    /// Leave for one more connection of a user, with what it may take.
    ///
    /// # Errors
    /// [`Kind::TooManyConnections`].
    pub(super) fn enter(self: &Arc<Self>, uid: u32, limits: &Limits) -> Result<Budget, Failure> {
        let mut users = lock(&self.users);
        let of_user = users.get(&uid).map_or(0, |user| user.connections);
        let in_all: usize = users.values().map(|user| user.connections).sum();
        let message = if of_user >= limits.connections_per_uid {
            format!("uid {uid} has {of_user} connections open, as many as one user may")
        } else if in_all >= limits.connections {
            format!("the daemon has {in_all} connections open, as many as it takes")
        } else {
            let half = limits.request_bytes_per_uid / 2;
            let message_bytes = u32::try_from(limits.message_bytes).unwrap_or(u32::MAX);
            let user = users.entry(uid).or_insert_with(|| User {
                connections: 0,
                budget: Arc::new(UserBudget {
                    steps: semaphore(half.max(STEP_BYTES * COST)),
                    rests: semaphore(half),
                    answers: semaphore(limits.answer_bytes_per_uid),
                    long_calls: Arc::new(Semaphore::new(1)),
                }),
            });
            user.connections += 1;
            return Ok(Budget {
                user: Arc::clone(&user.budget),
                own: semaphore(limits.queued_bytes.max(1)),
                own_bytes: limits.queued_bytes.max(1),
                rest_bytes: message_bytes.saturating_mul(COST).min(half),
                whole_bytes: message_bytes.saturating_add(1).min(limits.answer_bytes_per_uid),
                holders: Arc::default(),
                totals: Arc::clone(&self.totals),
                all_long_calls: Arc::clone(&self.long_calls),
                turns: Arc::clone(&self.turns),
                _open: Arc::new(Open { census: Arc::clone(self), uid }),
            });
        };
        Err(Failure::new(Kind::TooManyConnections, message).hint("close some, or try again later"))
    }
}

fn semaphore(bytes: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS)))
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut users = lock(&self.census.users);
        match users.get_mut(&self.uid) {
            Some(user) if user.connections > 1 => user.connections -= 1,
            _ => drop(users.remove(&self.uid)),
        }
        if users.is_empty() {
            self.census.totals.settle(VISIT_BYTES);
        }
    }
}

impl Totals {
    fn took(&self, bytes: u32) {
        self.held_bytes.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    fn gave_back(&self, bytes: u32) {
        self.since_given_back_bytes.fetch_add(bytes.into(), Ordering::Relaxed);
        let held = self.held_bytes.fetch_sub(bytes.into(), Ordering::Relaxed);
        if held == u64::from(bytes) {
            self.settle(FLOOD_BYTES);
        }
    }

    /// Gives memory back if more than `bytes` of it were used since that was done last.
    fn settle(&self, bytes: u64) {
        let used = self.since_given_back_bytes.load(Ordering::Relaxed);
        if used < bytes {
            return;
        }
        // Without a runtime the process is about to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.since_given_back_bytes.fetch_sub(used, Ordering::Relaxed);
            runtime.spawn_blocking(memory::give_back);
        }
    }
}

impl Budget {
    /// Room for an answer: of the user's, or of this connection's own where that is enough.
    ///
    /// # Errors
    /// The connection is being closed.
    pub(super) async fn answer(&self, answer: Answer) -> Result<Room, Closed> {
        let (of_user, of_own) = match answer {
            Answer::Small => (SMALL_BYTES, SMALL_BYTES.min(self.own_bytes)),
            Answer::Page => (PAGE_BYTES, SHORT_PAGE_BYTES.min(self.own_bytes)),
            Answer::Whole => (self.whole_bytes, 0),
        };
        if answer == Answer::Small
            && let Some(room) = self.try_own(of_own)
        {
            return Ok(room);
        }
        let of_user = of_user.min(self.whole_bytes);
        if let Ok(permit) = Arc::clone(&self.user.answers).try_acquire_many_owned(of_user) {
            return Ok(self.of_user(permit));
        }
        if of_own > 0
            && let Some(room) = self.try_own(of_own)
        {
            return Ok(room);
        }
        let user = Arc::clone(&self.user.answers).acquire_many_owned(of_user);
        if of_own == 0 {
            return Ok(self.of_user(user.await.map_err(|_| Closed)?));
        }
        tokio::select! {
            biased;
            permit = Arc::clone(&self.own).acquire_many_owned(of_own) => {
                Ok(Room::of_own(permit.map_err(|_| Closed)?))
            }
            permit = user => Ok(self.of_user(permit.map_err(|_| Closed)?)),
        }
    }

    /// Room for an item of a stream, or for a refusal: of this connection's own. One that is longer
    /// takes all of that, so that no other is made before it is written, and its length of the user's.
    ///
    /// # Errors
    /// The connection is being closed.
    pub(super) async fn item(&self, bytes: usize) -> Result<Room, Closed> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let own = Arc::clone(&self.own).acquire_many_owned(bytes.min(self.own_bytes)).await;
        let own = own.map_err(|_| Closed)?;
        if bytes <= self.own_bytes {
            return Ok(Room::of_own(own));
        }
        let user = Arc::clone(&self.user.answers);
        let permit = user.acquire_many_owned(bytes.min(self.whole_bytes)).await;
        let mut room = self.of_user(permit.map_err(|_| Closed)?);
        room._own = Some(own);
        Ok(room)
    }

    /// Waits until there is any room for an item.
    ///
    /// # Errors
    /// The connection is being closed.
    pub(super) async fn has_room(&self) -> Result<(), Closed> {
        self.own.acquire().await.map(drop).map_err(|_| Closed)
    }

    /// Room for the first step of a line, which has none yet.
    ///
    /// # Errors
    /// The connection is being closed.
    pub(super) async fn step(&self) -> Result<Room, Closed> {
        self.of_line(&self.user.steps, STEP_BYTES * COST).await
    }

    /// Room for all of a line that is longer than its first step.
    ///
    /// # Errors
    /// The connection is being closed.
    pub(super) async fn rest(&self) -> Result<Room, Closed> {
        self.of_line(&self.user.rests, self.rest_bytes).await
    }

    async fn of_line(&self, of: &Arc<Semaphore>, bytes: u32) -> Result<Room, Closed> {
        let permit = Arc::clone(of).acquire_many_owned(bytes).await.map_err(|_| Closed)?;
        Ok(Room::new(permit, Some(Arc::clone(&self.totals)), None))
    }

    /// The turn of a call that takes long: of its user's first, then of all.
    pub(super) async fn long_call(&self) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let of_user = Arc::clone(&self.user.long_calls).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all_long_calls).acquire_owned().await.ok()?;
        Some((of_user, of_all))
    }

    /// Runs a call whose answer may be long: of all such calls one is on a thread of the runtime at a time,
    /// so that the other threads are there for what is short, however many of them there are.
    pub(super) async fn in_turn<F: Future>(&self, call: F) -> F::Output {
        let mut call = pin!(call);
        loop {
            // It is never closed.
            let turn = self.turns.acquire().await;
            if let Poll::Ready(output) = poll!(&mut call) {
                return output;
            }
            drop(turn);
            // Until what the call waits for wakes it.
            pending!();
        }
    }

    /// Whether this connection holds room of its user's that another of the user's may wait for.
    pub(super) fn is_in_the_way(&self) -> bool {
        self.holders.load(Ordering::Relaxed) > 0
            && self.user.answers.available_permits() < PAGE_BYTES as usize
    }

    /// Whoever waits for room of this connection's own learns that there will be none.
    pub(super) fn close(&self) {
        self.own.close();
    }

    fn try_own(&self, bytes: u32) -> Option<Room> {
        Arc::clone(&self.own).try_acquire_many_owned(bytes).ok().map(Room::of_own)
    }

    fn of_user(&self, permit: OwnedSemaphorePermit) -> Room {
        Room::new(permit, Some(Arc::clone(&self.totals)), Some(Arc::clone(&self.holders)))
    }
}

/// Room that was taken; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    permit: OwnedSemaphorePermit,
    /// Of the user's: where it is counted.
    totals: Option<Arc<Totals>>,
    holders: Option<Arc<AtomicUsize>>,
    /// All that its connection has for itself, held beside.
    _own: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn new(
        permit: OwnedSemaphorePermit,
        totals: Option<Arc<Totals>>,
        holders: Option<Arc<AtomicUsize>>,
    ) -> Room {
        let room = Room { permit, totals, holders, _own: None };
        if let Some(totals) = &room.totals {
            totals.took(room.permits());
        }
        if let Some(holders) = &room.holders {
            holders.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    fn of_own(permit: OwnedSemaphorePermit) -> Room {
        Room::new(permit, None, None)
    }

    fn permits(&self) -> u32 {
        u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX)
    }

    /// How long an answer in it may be, with its line end.
    pub(super) fn bytes(&self) -> usize {
        self.permit.num_permits()
    }

    /// Gives back what is more than `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let more = self.permit.num_permits().saturating_sub(bytes.max(1));
        if let Some(rest) = self.permit.split(more)
            && let Some(totals) = &self.totals
        {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            drop(rest);
            // What was not used after all is no memory that was used.
            totals.held_bytes.fetch_sub(more.into(), Ordering::Relaxed);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(holders) = &self.holders {
            holders.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(totals) = &self.totals {
            totals.gave_back(self.permits());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn limits() -> Limits {
        Limits {
            connections: 3,
            connections_per_uid: 2,
            answer_bytes_per_uid: 1 << 20,
            ..Limits::default()
        }
    }

    #[test]
    fn connections_are_counted_by_user_and_in_all() {
        let (census, limits) = (Census::new(), limits());
        let kind = |refused: Result<Budget, Failure>| refused.unwrap_err().kind;
        let first = census.enter(1, &limits).unwrap();
        let _second = census.enter(1, &limits).unwrap();
        assert_eq!(kind(census.enter(1, &limits)), Kind::TooManyConnections);
        let other = census.enter(2, &limits).unwrap();
        assert_eq!(kind(census.enter(3, &limits)), Kind::TooManyConnections);
        drop(first);
        let _third = census.enter(1, &limits).unwrap();
        drop(other);
        let _again = census.enter(1, &limits).unwrap_err();
        let _other = census.enter(2, &limits).unwrap();
        assert_eq!(lock(&census.users).len(), 2);
    }

    #[test]
    fn a_users_answers_share_what_the_user_has_and_small_ones_never_wait() {
        let (census, limits) = (Census::new(), limits());
        let greedy = census.enter(1, &limits).unwrap();
        let other = census.enter(1, &limits).unwrap();
        let stranger = census.enter(2, &limits).unwrap();
        let now = |budget: &Budget, answer| budget.answer(answer).now_or_never()?.ok();

        let mut whole = now(&greedy, Answer::Whole).unwrap();
        assert!(!other.is_in_the_way() && greedy.is_in_the_way());
        assert!(now(&other, Answer::Whole).is_none());
        // A page is shorter then, and what is small goes as ever.
        let page = now(&other, Answer::Page).unwrap();
        assert_eq!(page.bytes(), SHORT_PAGE_BYTES as usize);
        let small = [(); 2].map(|()| now(&other, Answer::Small).unwrap());
        assert!(now(&other, Answer::Small).is_none(), "64 KiB are taken");
        assert!(now(&stranger, Answer::Whole).is_some(), "another user has room of its own");

        whole.shrink_to(1000);
        assert!(!greedy.is_in_the_way());
        assert_eq!(now(&other, Answer::Page).unwrap().bytes(), PAGE_BYTES as usize);
        drop((whole, page, small));
        assert!(now(&other, Answer::Whole).is_some());
        assert_eq!(census.totals.held_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn long_lines_are_few_and_short_ones_do_not_wait_for_them() {
        let (census, limits) = (Census::new(), Limits::default());
        let budget = census.enter(1, &limits).unwrap();
        let taken = |room: Option<Result<Room, Closed>>| room.map(Result::unwrap);
        let step = || taken(budget.step().now_or_never());
        let rest = || taken(budget.rest().now_or_never());
        let long = [(step(), rest()), (step(), rest())];
        assert!(long.iter().all(|(step, rest)| step.is_some() && rest.is_some()));
        assert!(rest().is_none());
        let steps: Vec<Room> = std::iter::from_fn(step).collect();
        assert_eq!(steps.len(), 30);
        drop(long);
        assert!(step().is_some() && rest().is_some());
        drop(steps);
        assert_eq!(census.totals.held_bytes.load(Ordering::Relaxed), 0);
    }
}
