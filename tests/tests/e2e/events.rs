//! What happened, in order: replayed and followed without a gap or a repeat, past the daemon's end.

use llamactl_tests::{Follower, Home, TestModel, need};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::process::Command;

/// A home without a llama-server, with a model `m`, and its daemon.
fn home_with_model() -> (Home, llamactl_tests::Daemon) {
    let home = Home::without_llama_server();
    let daemon = home.daemon();
    home.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m" }));
    (home, daemon)
}

/// Fault 18: whatever the time zones of the daemon and of who asks.
#[test]
fn an_event_is_found_by_its_local_time_in_every_zone() {
    let home = Home::without_llama_server();
    let command = home.llamactld([""; 0]).env("TZ", "<+1345>-13:45<+1445>,M9.5.0,M4.1.0");
    let _daemon = home.daemon_by(command);
    home.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m" }));
    let added = listed(&home, json!({})).pop().unwrap();
    let second = added["at_ms"].as_i64().unwrap() / 1000;
    for zone in ["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "NST3:30NDT,M3.2.0,M11.1.0", "<-11>11"] {
        let at = |second: i64| {
            let mut shown = Command::new("date");
            shown.args(["-d", &format!("@{second}"), "+%F %T"]);
            let shown = shown.env("TZ", zone).output().unwrap().stdout;
            String::from_utf8(shown).unwrap().trim().to_owned()
        };
        let since = |second| {
            let said = home.llamactl(["events", "--json", "--since", &at(second)]).env("TZ", zone);
            numbers(&said.run().ok().json_lines())
        };
        let number = added["seq"].as_i64().unwrap();
        assert!(since(second).contains(&number), "{zone}");
        assert!(!since(second + 1).contains(&number), "{zone}");
    }
}

fn set(home: &Home, context: u32) {
    home.call("model.set", json!({ "model": "m", "set": { "ctx-size": context } }));
}

/// The numbers of the events in items or events of a stream or a list.
fn numbers<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<i64> {
    events.into_iter().map(|event| event["seq"].as_i64().unwrap()).collect()
}

fn listed(home: &Home, params: Value) -> Vec<Value> {
    home.call("event.list", params)["items"].as_array().unwrap().clone()
}

fn kinds_of(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_kind_stands_for_itself_and_all_below_it() {
    let (home, _daemon) = home_with_model();
    set(&home, 512);
    home.call("defaults.set", json!({ "set": { "ctx-size": 512 } }));

    let all = listed(&home, json!({}));
    assert_eq!(kinds_of(&all), ["daemon.started", "model.added", "model.set", "defaults.set"]);
    for (kinds, expected) in [
        (json!(["model"]), &["model.added", "model.set"][..]),
        (json!(["model.*"]), &["model.added", "model.set"]),
        (json!(["model.set"]), &["model.set"]),
        (json!(["model.set", "daemon"]), &["daemon.started", "model.set"]),
        (json!(["mode"]), &[]),
        (json!(["model.se"]), &[]),
    ] {
        assert_eq!(kinds_of(&listed(&home, json!({ "kinds": kinds }))), expected, "{kinds}");
    }
    home.connect().expect_refusal("event.list", json!({ "kinds": ["*"] }), "invalid_value");

    // The page ends behind what was asked for and not behind what was looked at.
    let page = home.call("event.list", json!({ "kinds": ["model"], "limit": 1 }));
    assert_eq!((&page["next"], &page["last"]), (&page["items"][0]["seq"], &all[3]["seq"]));

    let mut events = home.follow("event.follow", json!({ "after": 0, "kinds": ["model.set"] }));
    let first = events.item();
    assert_eq!((&first["kind"], &first["data"]["kind"]), (&json!("snapshot"), &json!("model.set")));
    home.call("defaults.set", json!({ "set": { "ctx-size": 1024 } }));
    set(&home, 1024);
    let second = events.item();
    assert_eq!((&second["kind"], &second["data"]["kind"]), (&json!("change"), &json!("model.set")));

    let shown = home.cli(["events", "--json", "--kind", "model.set", "--kind", "daemon"]).ok();
    assert_eq!(
        kinds_of(&shown.json_lines()),
        ["daemon.started", "model.set", "model.set"],
        "{}",
        shown.stdout()
    );
    for unknown in ["*", "foo", "server.fail"] {
        home.cli(["events", "--kind", unknown]).code(5);
    }
}

#[test]
fn every_kind_there_is_completes() {
    let (home, _daemon) = home_with_model();
    let known: Vec<&str> =
        llamactl_protocol::event::EventKind::ALL.iter().map(|(_, kind, _)| *kind).collect();
    for event in listed(&home, json!({})) {
        assert!(known.contains(&event["kind"].as_str().unwrap()), "{event}");
    }
    let offered = home
        .llamactl(["--", "llamactl", "events", "--kind", "server.f"])
        .env("LLAMACTL_COMPLETE", "bash")
        .run()
        .ok();
    assert_eq!(offered.stdout().split('\t').next(), Some("server.failed"));
}

/// Reads JSON items until the event with this number has come; the numbers up to it.
fn follow_up_to(events: &mut Follower, last: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|&seen| seen < last) {
        let item = events.json_line();
        assert!(item["kind"] == "snapshot" || item["kind"] == "change", "{item}");
        seen.extend(numbers([&item["data"]]));
    }
    seen
}

#[test]
fn following_goes_on_with_the_next_daemon_without_a_gap_or_a_repeat() {
    let (home, mut daemon) = home_with_model();
    let mut events = home.llamactl(["events", "-f", "--json", "--after", "0"]).spawn();
    // Nothing of this kind has come when the daemon dies: there is a cursor all the same.
    let mut sets = home.llamactl(["events", "-f", "-q", "--kind", "defaults"]).spawn();
    home.call("daemon.ping", json!({}));
    let last = |home: &Home| home.call("event.list", json!({ "limit": 1 }))["last"].as_i64();
    let mut seen = follow_up_to(&mut events, last(&home).unwrap());
    // Follows already, or it would be from the next daemon on.
    home.call("defaults.set", json!({ "set": { "ctx-size": 256 } }));
    sets.line();

    for round in 0..3 {
        set(&home, 512 + round);
        if round == 1 {
            assert!(daemon.terminate().success());
        } else {
            daemon.kill();
        }
        daemon.start_again();
        set(&home, 1024 + round);
        home.call("defaults.set", json!({ "set": { "ctx-size": 512 + round } }));
        seen.extend(follow_up_to(&mut events, last(&home).unwrap()));
    }

    assert_eq!(seen, (1..=seen.len()).map(|seq| i64::try_from(seq).unwrap()).collect::<Vec<_>>());
    let expected = numbers(&listed(&home, json!({ "kinds": ["defaults"] })));
    let shown: Vec<i64> =
        (1..expected.len()).map(|_| sets.line().unwrap().parse().unwrap()).collect();
    assert_eq!(shown, expected[1..]);

    // Stopped on purpose: nobody waits for the next.
    home.call("daemon.stop", json!({}));
    let _ = daemon.wait();
    let (ended, silent) = (events.finish().code(6), sets.finish().code(6));
    assert!(ended.stderr().contains("waiting for the next one"), "{}", ended.stderr());
    assert!(ended.stderr().contains("stop"), "{}", ended.stderr());
    // With -q nothing is said but the error.
    assert!(silent.stderr().starts_with("error: the daemon "), "{}", silent.stderr());
}

#[test]
fn what_is_kept_no_more_is_said_to_be_missed() {
    let (home, mut daemon) = home_with_model();
    (0..6).for_each(|round| set(&home, 512 + round));
    daemon.kill();
    let registry = Connection::open(home.state_dir().join("registry.db")).unwrap();
    registry.execute("DELETE FROM events WHERE seq <= 5", []).unwrap();
    drop(registry);
    daemon.start_again();

    let page = home.call("event.list", json!({ "after": 2 }));
    assert_eq!((&page["missed"], &page["items"][0]["seq"]), (&json!(3), &json!(6)));
    assert_eq!(home.call("event.list", json!({ "after": 5 }))["missed"], Value::Null);
    assert_eq!(home.call("event.list", json!({}))["missed"], Value::Null);

    let mut events = home.follow("event.follow", json!({ "after": 2 }));
    let missed = events.item();
    assert_eq!((&missed["kind"], &missed["cursor"]), (&json!("missed"), &json!("5")));
    assert_eq!(missed["data"]["items"], 3);
    assert_eq!(events.item()["data"]["seq"], 6);
    // A cursor that this registry has not reached is another's.
    let missed = home.follow("event.follow", json!({ "after": 1_000_000 })).item();
    assert_eq!((&missed["kind"], &missed["data"]["items"]), (&json!("missed"), &Value::Null));

    let shown = home.cli(["events", "--after", "2"]).ok();
    assert!(shown.stderr().contains("3 items were dropped"), "{}", shown.stderr());
}

#[test]
fn a_reader_that_has_gone_ends_the_following() {
    need!("bash", "head");
    let (home, _daemon) = home_with_model();
    let llamactl = llamactl_tests::artifacts::llamactl().display().to_string();
    // Nothing more happens: that the reader has gone is not found by writing.
    let line = format!("set -o pipefail; {llamactl} events -f --after 0 | head -n 1");
    let output = home.program("/usr/bin/env", ["bash", "-c", &line]).run().ok();
    assert_eq!((output.lines().len(), output.stderr().as_str()), (1, ""));
}

#[test]
fn the_last_hundred_are_shown_unless_more_is_asked_for() {
    let (home, _daemon) = home_with_model();
    let mut rpc = home.connect();
    for round in 0..130 {
        rpc.call("defaults.set", json!({ "set": { "autostart": round % 2 == 0 } }));
    }
    let last = rpc.call("event.list", json!({ "limit": 1 }))["last"].as_i64().unwrap();
    let shown = |arguments: &[&str]| {
        let shown = home.cli([&["events", "--json"], arguments].concat()).ok();
        numbers(&shown.json_lines())
    };
    let those = |first: i64| (first..=last).collect::<Vec<i64>>();
    assert_eq!(shown(&[]), those(last - 99));
    assert_eq!(shown(&["-n", "3"]), those(last - 2));
    assert_eq!(shown(&["-n", "120"]), those(last - 119));
    assert_eq!(shown(&["--after", "0"]), those(1));
    assert_eq!(shown(&["--since", "1h"]), those(1));
    assert_eq!(shown(&["--after", "0", "-n", "2", "--kind", "model"]).len(), 1);
    assert_eq!(shown(&["-n", "1000"]), those(1), "all there are, and no more");
    // Where there are more it is said, with the command for them.
    let people = home.cli(["events", "--kind", "defaults"]).ok();
    let hint =
        "these are the last 100; see all there are: llamactl events --after 0 --kind defaults";
    assert!(people.stderr().contains(hint), "{}", people.stderr());
    assert_eq!(people.stdout().lines().count(), 101);
    for quiet in [&["events", "--kind", "model"][..], &["events", "--json"], &["events", "-n", "1"]]
    {
        assert_eq!(home.cli(quiet).ok().stderr(), "", "{quiet:?}");
    }
    // From the end, page after page.
    let (mut before, mut seen) = (json!(i64::MAX), Vec::new());
    while !before.is_null() {
        let mut page = rpc.call("event.list", json!({ "before": before, "limit": 50 }));
        let mut items = numbers(page["items"].as_array().unwrap());
        items.append(&mut seen);
        seen = items;
        before = page["next"].take();
    }
    assert_eq!(seen, those(1));
    // Following begins with as many as asked for.
    let mut events = home.llamactl(["events", "-f", "--json", "-n", "5"]).spawn();
    assert_eq!(follow_up_to(&mut events, last), those(last - 4));
}
