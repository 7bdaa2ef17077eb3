use super::*;
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};

fn ledger(max_running: Option<u32>, max_loading: u32) -> Ledger {
    let mut ledger = Ledger::new(Bounds { max_running, max_loading });
    ledger.step(ToArbiter::Recovered);
    ledger
}

fn want(model: i64, run: &str) -> ToArbiter {
    ToArbiter::Want { model, name: format!("m{model}").into(), run: run.into() }
}

fn found(model: i64, run: &str, loading: bool) -> ToArbiter {
    ToArbiter::Found { model, name: format!("m{model}").into(), run: run.into(), loading }
}

fn gone(model: i64, run: &str, next: Option<&str>) -> ToArbiter {
    ToArbiter::Gone { model, run: run.into(), next: next.map(str::to_owned) }
}

fn admitted(news: &[(i64, Orders)]) -> Vec<i64> {
    news.iter().filter(|(_, orders)| orders.admit.is_some()).map(|(model, _)| *model).collect()
}

#[test]
fn who_comes_first_goes_first() {
    let mut ledger = ledger(None, 2);
    assert_eq!(admitted(&ledger.step(want(1, "a"))), [1]);
    assert_eq!(admitted(&ledger.step(want(2, "b"))), [2]);
    let place = ledger.step(want(3, "c"))[0].1.place.clone().unwrap();
    assert_eq!((place.position, place.reason), (1, QueueReason::Loads));
    assert_eq!(ledger.step(want(4, "d"))[0].1.place.as_ref().unwrap().position, 2);
    let news = ledger.step(ToArbiter::Loaded { model: 2, run: "b".into() });
    assert_eq!(admitted(&news), [3]);
    let moved = news.iter().find(|(model, _)| *model == 4).unwrap();
    assert_eq!(moved.1.place.as_ref().unwrap().position, 1);
}

/// The fault that a review found: whoever crashed in a load went behind the others, and nobody was
/// told that a place had become free.
#[test]
fn who_crashes_in_a_load_and_wants_again_lets_the_next_in() {
    let mut ledger = ledger(None, 1);
    ledger.step(want(1, "a"));
    ledger.step(want(2, "b"));
    assert_eq!(admitted(&ledger.step(gone(1, "a", Some("a2")))), [2]);
    let news = ledger.step(want(1, "a2"));
    assert_eq!(news[0].1.place.as_ref().unwrap().position, 1);
    assert_eq!(ledger.check(), Ok(()));
}

#[test]
fn one_too_many_is_told_who_runs_and_what_restarts_keeps_its_place() {
    let mut ledger = ledger(Some(1), 1);
    ledger.step(want(1, "a"));
    let refusal = ledger.step(want(2, "b"))[0].1.refused.clone().unwrap();
    assert_eq!((refusal.run.as_str(), refusal.max_running), ("b", 1));
    assert_eq!(refusal.running, ["m1".into()]);
    ledger.step(gone(2, "b", None));
    // Between the end of one run and the next of the same model nobody takes its place.
    ledger.step(gone(1, "a", Some("a2")));
    assert!(ledger.step(want(2, "b2"))[0].1.refused.is_some());
    assert_eq!(admitted(&ledger.step(want(1, "a2"))), [1]);
    ledger.step(gone(1, "a2", None));
    assert_eq!(admitted(&ledger.step(want(2, "b3"))), [2]);
}

#[test]
fn what_is_found_counts_and_is_never_refused() {
    let mut ledger = Ledger::new(Bounds { max_running: Some(1), max_loading: 1 });
    ledger.step(found(1, "a", true));
    ledger.step(found(2, "b", true));
    let place = ledger.step(want(2, "b2"))[0].1.place.clone().unwrap();
    assert_eq!(place.reason, QueueReason::Recovery);
    assert!(admitted(&ledger.step(ToArbiter::Recovered)).is_empty(), "one loads already");
    assert_eq!(admitted(&ledger.step(ToArbiter::Loaded { model: 1, run: "a".into() })), [2]);
}

#[test]
fn an_end_admits_nobody() {
    let mut ledger = ledger(None, 1);
    ledger.step(want(1, "a"));
    ledger.step(want(2, "b"));
    ledger.step(ToArbiter::Close);
    assert!(admitted(&ledger.step(gone(1, "a", None))).is_empty());
}

#[test]
fn a_message_of_an_earlier_run_does_nothing() {
    let mut ledger = ledger(None, 1);
    ledger.step(want(1, "a"));
    ledger.step(gone(1, "a", None));
    ledger.step(want(1, "b"));
    assert!(ledger.step(gone(1, "a", None)).is_empty());
    assert!(ledger.step(ToArbiter::Loaded { model: 1, run: "a".into() }).is_empty());
    assert_eq!(ledger.loads(), 1);
}

proptest! {
    #[test]
    fn the_invariants_hold_and_no_place_is_lost(
        steps in proptest::collection::vec((0u8..8, 0i64..5), 0..120),
        max_running in proptest::option::of(1u32..4),
    ) {
        let mut ledger = Ledger::new(Bounds { max_running, max_loading: 2 });
        let mut runs = [(); 5].map(|()| String::new());
        for (number, (step, model)) in steps.into_iter().enumerate() {
            let run = &mut runs[usize::try_from(model).unwrap()];
            let next = format!("{number}");
            match step {
                0 | 1 => { *run = next; ledger.step(want(model, run)); }
                2 => { *run = next; ledger.step(found(model, run, number % 2 == 0)); }
                3 => { ledger.step(ToArbiter::Loaded { model, run: run.clone() }); }
                4 => { ledger.step(gone(model, run, None)); }
                5 => {
                    ledger.step(gone(model, run, Some(&next)));
                    *run = next;
                }
                6 => { ledger.step(ToArbiter::Recovered); }
                _ => { ledger.step(ToArbiter::Retire { model }); }
            };
            prop_assert_eq!(ledger.check(), Ok(()));
            prop_assert!(ledger.loads() <= 5);
        }
        for model in 0..5 {
            ledger.step(ToArbiter::Retire { model });
        }
        prop_assert_eq!((ledger.runs(), ledger.loads()), (0, 0));
    }
}

/// A server's task, as small as it can be and still take part in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Server {
    Rests,
    Queued(u8),
    Loads(u8),
    Runs(u8),
    /// Ends; the second is the run that follows, 0: none.
    Ends(u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Said {
    Want(u8),
    Loaded(u8),
    Gone(u8, u8),
}

/// Models, their unread messages, the orders they have not read yet, and the ledger: every order in
/// which things can happen is gone through.
#[derive(Clone, Debug)]
struct Small {
    servers: Vec<Server>,
    sent: Vec<VecDeque<Said>>,
    /// What the watch shows, and whether it was seen.
    orders: Vec<(Option<u8>, bool)>,
    made: Vec<u8>,
    ledger: Ledger,
}

impl Small {
    fn key(&self) -> String {
        // Cheap, and complete: the ledger's queue and places are in its text.
        format!(
            "{:?}{:?}{:?}{:?}{:?}{:?}",
            self.servers, self.sent, self.orders, self.made, self.ledger.entries, self.ledger.queue
        )
    }

    fn deliver(&mut self, at: usize) {
        let Some(said) = self.sent[at].pop_front() else { return };
        let model = i64::try_from(at).unwrap();
        let message = match said {
            Said::Want(run) => want(model, &run.to_string()),
            Said::Loaded(run) => ToArbiter::Loaded { model, run: run.to_string() },
            Said::Gone(run, next) => {
                let next = (next > 0).then(|| next.to_string());
                gone(model, &run.to_string(), next.as_deref())
            }
        };
        for (model, orders) in self.ledger.step(message) {
            let run = orders.admit.map(|run| run.parse().unwrap());
            self.orders[usize::try_from(model).unwrap()] = (run, true);
        }
    }

    /// What can happen next.
    fn nexts(&self, runs_each: u8) -> Vec<Small> {
        let mut nexts = Vec::new();
        for at in 0..self.servers.len() {
            if !self.sent[at].is_empty() {
                let mut next = self.clone();
                next.deliver(at);
                nexts.push(next);
            }
            // Enough that messages overtake each other; more would only be longer.
            if self.sent[at].len() > 3 {
                continue;
            }
            let mut go = |server: Server, said: &[Said], made: u8| {
                let mut next = self.clone();
                next.servers[at] = server;
                next.sent[at].extend(said);
                next.made[at] = made;
                nexts.push(next);
            };
            let made = self.made[at];
            let (more, new) = (made < runs_each, made + 1);
            match self.servers[at] {
                Server::Rests if more => go(Server::Queued(new), &[Said::Want(new)], new),
                Server::Rests => {}
                Server::Queued(run) => {
                    go(Server::Rests, &[Said::Gone(run, 0)], made);
                    // A grant for another run is ignored.
                    if self.orders[at] == (Some(run), true) {
                        go(Server::Loads(run), &[], made);
                    }
                }
                Server::Loads(run) => {
                    go(Server::Runs(run), &[Said::Loaded(run)], made);
                    go(Server::Ends(run, 0), &[Said::Loaded(run)], made);
                    go(Server::Rests, &[Said::Gone(run, 0)], made);
                    if more {
                        let crash = [Said::Gone(run, new), Said::Want(new)];
                        go(Server::Queued(new), &crash, new);
                    }
                }
                Server::Runs(run) => {
                    go(Server::Ends(run, 0), &[], made);
                    if more {
                        go(Server::Ends(run, new), &[], new);
                    }
                }
                Server::Ends(run, 0) => {
                    go(Server::Rests, &[Said::Gone(run, 0)], made);
                    if more {
                        go(Server::Ends(run, new), &[], new);
                    }
                }
                Server::Ends(run, then) => {
                    go(Server::Ends(run, 0), &[], made);
                    let follows = [Said::Gone(run, then), Said::Want(then)];
                    go(Server::Queued(then), &follows, made);
                }
            }
        }
        nexts
    }

    fn check(&self, max_loading: usize) {
        assert_eq!(self.ledger.check(), Ok(()), "{self:#?}");
        let loads = |server: &&Server| matches!(server, Server::Loads(_));
        assert!(self.servers.iter().filter(loads).count() <= max_loading, "{self:#?}");
        if self.sent.iter().any(|sent| !sent.is_empty()) {
            return;
        }
        // With everything said, the ledger and the servers agree.
        let runs = self.servers.iter().filter(|server| **server != Server::Rests).count();
        assert_eq!(self.ledger.runs(), runs, "a place leaked: {self:#?}");
        let stranded = |at: usize, run: u8| {
            self.orders[at] != (Some(run), true) && self.ledger.loads() < max_loading
        };
        for (at, server) in self.servers.iter().enumerate() {
            if let Server::Queued(run) = server {
                assert!(!stranded(at, *run), "nobody will ever let it in: {self:#?}");
            }
        }
    }
}

/// Goes through every state that can be reached, some 200,000: 2 models with 4 runs each, and 3 models
/// with 2, where one and where two may load.
#[test]
fn in_no_order_of_messages_does_anybody_wait_for_ever_or_a_place_get_lost() {
    for (models, runs_each, max_loading) in [(2, 4, 1), (3, 2, 1), (3, 2, 2)] {
        let ledger = ledger(None, max_loading);
        let first = Small {
            servers: vec![Server::Rests; models],
            sent: vec![VecDeque::new(); models],
            orders: vec![(None, false); models],
            made: vec![0; models],
            ledger,
        };
        let mut seen = HashSet::from([first.key()]);
        let mut open = vec![first];
        while let Some(state) = open.pop() {
            state.check(max_loading as usize);
            for next in state.nexts(runs_each) {
                if seen.insert(next.key()) {
                    open.push(next);
                }
            }
        }
        assert!(seen.len() > 500, "{} states", seen.len());
    }
}
