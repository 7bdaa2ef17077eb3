//! Streams: the snapshot, the changes, what was missed, the end.

use super::super::Limits;
use super::kit::{Kit, kind, request, within_patience};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

#[tokio::test]
async fn a_stream_answers_then_gives_the_snapshot_then_the_changes() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let answer = client.call(1, "ticks.follow", json!({})).await;
    let id = answer["result"].clone();
    let first = client.next().await;
    assert_eq!(first["method"], "ticks.item");
    assert_eq!(first["params"]["subscription"], id);
    assert_eq!(first["params"]["result"]["kind"], "snapshot");
    for n in 1..=3 {
        kit.world.ticks.send(n).unwrap();
    }
    for n in 1..=3 {
        assert_eq!(client.item().await, ("change".into(), json!(n), json!(n.to_string())));
    }
}

#[tokio::test]
async fn nothing_comes_after_the_answer_to_an_unsubscription() {
    let kit = Kit::new();
    for by_position in [false, true] {
        let mut client = kit.connect();
        let id = client.call(1, "ticks.follow", json!({})).await["result"].clone();
        client.item().await;
        for n in 0..20 {
            kit.world.ticks.send(n).unwrap();
        }
        let params = if by_position { json!([id]) } else { json!({"subscription": id}) };
        client.ask(2, "ticks.unfollow", params).await;
        loop {
            let line = client.next().await;
            if line["id"] == 2 {
                assert_eq!(line["result"], true);
                break;
            }
        }
        assert_eq!(kit.world.ticks.receiver_count(), 0, "the source is dropped");
        let again = client.call(3, "ticks.unfollow", json!({"subscription": id})).await;
        assert_eq!((&again["id"], &again["result"]), (&json!(3), &json!(false)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_even_an_item_on_its_way_comes_after_that_answer() {
    let kit = Kit::new();
    let mut client = kit.connect();
    for round in 0..100 {
        let id = client.call(1, "flood.follow", json!({})).await["result"].clone();
        client.item().await;
        client.ask(2, "flood.unfollow", json!({"subscription": id})).await;
        while client.next().await["id"] != 2 {}
        assert_eq!(client.call(3, "word.list", json!({})).await["id"], 3, "round {round}");
    }
}

#[tokio::test]
async fn a_stream_is_closed_by_its_own_method_and_connection_only() {
    let kit = Kit::new();
    let (mut client, mut other) = (kit.connect(), kit.connect());
    let id = client.call(1, "quiet.follow", json!({})).await["result"].clone();
    let params = json!({"subscription": id});
    assert_eq!(other.call(1, "quiet.unfollow", params.clone()).await["result"], false);
    assert_eq!(client.call(2, "state.unfollow", params.clone()).await["result"], false);
    assert_eq!(kind(&client.call(3, "quiet.unfollow", json!({})).await), "invalid_params");
    assert_eq!(client.call(4, "quiet.unfollow", params).await["result"], true);
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed_and_goes_on_in_order() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.call(1, "ticks.follow", json!({})).await;
    client.item().await;
    // Far more than the socket, the queue and the channel hold, while nothing is read.
    let mut other = kit.connect();
    for n in 1..=20_000u64 {
        kit.world.ticks.send(n).unwrap();
        if n % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(other.call(1, "word.list", json!({})).await["result"].is_array(), "others go on");

    let (mut last, mut missed) = (0, 0);
    while last < 20_000 {
        let (kind, data, _) = client.item().await;
        match kind.as_str() {
            "change" => {
                let n = data.as_u64().unwrap();
                assert_eq!(n, last + missed + 1, "no gap that was not said");
                (last, missed) = (n, 0);
            }
            "missed" => missed += data["items"].as_u64().unwrap(),
            other => panic!("{other}"),
        }
    }
    let dropped = kit.counters.dropped_messages_total();
    assert!(dropped > 0 && dropped < 20_000, "{dropped}");
    kit.world.ticks.send(20_001).unwrap();
    assert_eq!(client.item().await.1, 20_001, "live again");
}

#[tokio::test]
async fn a_flood_to_a_peer_that_reads_nothing_waits_for_room() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.call(1, "flood.follow", json!({})).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (kind, data, cursor) = client.item().await;
        seen.push((kind, data.as_str().map_or(0, str::len), cursor.as_str().unwrap().to_owned()));
    }
    // The third item is larger than a message may be: it is left out, and that is said.
    let expected = [("change", 1), ("change", 2), ("missed", 3), ("change", 4), ("change", 5)];
    for ((kind, bytes, cursor), (wanted, n)) in seen.iter().zip(expected) {
        assert_eq!((kind.as_str(), cursor.as_str()), (wanted, n.to_string().as_str()));
        assert_eq!(*bytes, if wanted == "missed" { 0 } else { 4096 });
    }
    assert_eq!(kit.counters.dropped_messages_total(), 1);
    // Calls of the same connection wait in line behind the flood, and are answered.
    client.ask(2, "word.list", json!({})).await;
    while client.next().await["id"] != 2 {}
}

#[tokio::test]
async fn the_latest_state_coalesces_for_a_slow_reader() {
    let kit = Kit::within(Limits { queued_bytes: 1, ..Limits::default() });
    let mut client = kit.connect();
    client.call(1, "state.follow", json!({})).await;
    assert_eq!(client.item().await.0, "snapshot");
    for n in 1..=1000 {
        kit.world.state.send_replace(n);
    }
    let mut items = 0;
    loop {
        items += 1;
        if client.item().await.1 == 1000 {
            break;
        }
    }
    assert!(items <= 2, "{items}");
}

#[tokio::test]
async fn a_stream_in_a_batch_starts_after_the_batch_is_answered() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let follow = request(1, "ticks.follow", json!({}));
    let list = request(2, "word.list", json!({}));
    client.send(format!("[{follow},{list}]")).await;
    let answers = client.next().await;
    assert!(answers[0]["result"].is_u64() && answers[1]["result"].is_array(), "{answers}");
    assert_eq!(client.item().await.0, "snapshot");
    // A stream asked for by a notification has no number to close it by: it does not start.
    let params = json!({"jsonrpc": "2.0", "method": "quiet.follow"});
    client.send(params.to_string()).await;
    client.call(3, "word.list", json!({})).await;
    assert_eq!(Arc::strong_count(&kit.world.quiet), 1);
}

#[tokio::test]
async fn a_source_that_panics_ends_its_stream_with_the_reason() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.call(1, "broken.follow", json!({})).await;
    assert_eq!(client.item().await.0, "snapshot");
    let (kind, data, _) = client.item().await;
    assert_eq!((kind.as_str(), &data["reason"]), ("end", &json!("failed")));
    assert_eq!(data["failure"]["kind"], "internal");
    assert_eq!(kit.counters.panics_total(), 1);
    assert!(client.call(2, "word.list", json!({})).await["result"].is_array());
}

/// Waits until no quiet source is alive.
async fn quiet_sources_are_gone(kit: &Kit) {
    let gone = async {
        while Arc::strong_count(&kit.world.quiet) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(1), gone).await.expect("within a second");
}

#[tokio::test]
async fn an_idle_stream_ends_when_its_reader_goes() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.call(1, "quiet.follow", json!({})).await;
    assert_eq!(Arc::strong_count(&kit.world.quiet), 2);
    drop(client);
    quiet_sources_are_gone(&kit).await;

    // So does one whose reader had half-closed, as `nc -N` does.
    let mut client = kit.connect();
    client.ask(1, "quiet.follow", json!({})).await;
    client.write.shutdown().await.unwrap();
    assert!(client.next().await["result"].is_u64());
    assert!(timeout(Duration::from_millis(30), client.line()).await.is_err(), "it goes on");
    assert_eq!(Arc::strong_count(&kit.world.quiet), 2);
    drop(client);
    quiet_sources_are_gone(&kit).await;
    kit.all_closed().await;
}

#[tokio::test]
async fn a_stop_says_what_is_ready_then_the_end_then_closes() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.call(1, "ticks.follow", json!({})).await;
    assert_eq!(client.item().await.1, 0);
    client.call(2, "quiet.follow", json!({})).await;
    client.ask(3, "wait.here", json!({})).await;
    within_patience(kit.world.at_gate.notified()).await;
    kit.world.ticks.send(1).unwrap();
    kit.world.ticks.send(2).unwrap();
    kit.stop.cancel();
    kit.world.gate.add_permits(1);
    let (mut ticks, mut ends, mut answered) = (Vec::new(), 0, false);
    while let Some(line) = client.line().await {
        if line["id"] == 3 {
            answered = true;
            continue;
        }
        let item = &line["params"]["result"];
        match item["kind"].as_str() {
            Some("end") => {
                assert_eq!(item["data"]["reason"], "daemon_stopping");
                let cursor = &item["cursor"];
                let ticks = line["method"] == "ticks.item";
                assert_eq!(*cursor, if ticks { json!("2") } else { Value::Null });
                ends += 1;
            }
            _ => ticks.push(item["data"].clone()),
        }
    }
    assert_eq!((ticks, ends, answered), (vec![json!(1), json!(2)], 2, true));
    kit.all_closed().await;
}
