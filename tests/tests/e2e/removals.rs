//! A model that is removed while others ask for it.

use llamactl_tests::{Home, Refusal, Rpc, TestModel};
use serde_json::{Value, json};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const ROUNDS: usize = 120;

/// Clients that ask for the server while one removes its model, each a little later than the one
/// before.
const STARTERS: usize = 6;

/// Clients that keep the registry busy with reading, so that a start takes its time.
const READERS: usize = 2;

/// Models for them to read.
const OTHERS: usize = 100;

/// What may become of a call that lost the race.
const LOST: &[&str] = &["model_not_found", "model_running", "superseded"];

fn names(list: &Value, key: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    let names = items.map(|item| item[key].as_str().unwrap().to_owned());
    names.filter(|name| !name.starts_with("other")).collect()
}

/// Removes `m` and starts its server at once; who was refused.
fn race(connections: &mut [Rpc]) -> Vec<Refusal> {
    let together = Barrier::new(connections.len());
    let model = || json!({ "model": "m" });
    thread::scope(|scope| {
        let calls: Vec<_> = connections
            .iter_mut()
            .enumerate()
            .map(|(number, rpc)| {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    if number == 0 {
                        return rpc.try_call("model.remove", model());
                    }
                    // It may be gone by then.
                    let _ =
                        (1..number).try_for_each(|_| rpc.try_call("model.show", model()).map(drop));
                    rpc.try_call("server.start", model())
                })
            })
            .collect();
        calls.into_iter().filter_map(|call| call.join().unwrap().err()).collect()
    })
}

#[test]
fn starts_and_a_removal_at_once_end_in_plain_words_and_leave_nothing() {
    let home = Home::with_fake_llama_server();
    let _daemon = home.daemon();
    let path = home.own_model(TestModel::Tiny, "m.gguf");
    for number in 0..OTHERS {
        home.call("model.add", json!({ "path": path, "name": format!("other{number}") }));
    }
    let mut connections: Vec<Rpc> = (0..=STARTERS).map(|_| home.connect()).collect();
    let over = AtomicBool::new(false);
    let mut refusals = Vec::new();
    /// Ends the readers, also when the test fails: it would wait for them.
    struct Ending<'a>(&'a AtomicBool);
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let _ending = Ending(&over);
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut rpc = home.connect();
                while !over.load(Ordering::Relaxed) {
                    rpc.call("model.list", json!({ "limit": OTHERS }));
                }
            });
        }
        for _ in 0..ROUNDS {
            home.call("model.add", json!({ "path": path, "name": "m" }));
            refusals.extend(race(&mut connections));
            let mut rpc = home.connect();
            if rpc.try_call("model.show", json!({ "model": "m" })).is_ok() {
                rpc.call("model.remove", json!({ "model": "m", "stop": true }));
            }
        }
    });
    let strange: Vec<_> = refusals.iter().filter(|it| !LOST.contains(&it.kind.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(names(&home.call("model.list", json!({})), "name"), [""; 0]);
    assert_eq!(names(&home.call("server.list", json!({ "all": true })), "model"), [""; 0]);
    assert_eq!(home.call("daemon.status", json!({}))["servers_active"], 0, "a ghost");
    assert!(home.llama_servers().is_empty());
}
