//! GPUs: what is known of them, who holds their memory, and drivers that fail. Without a card: by a
//! library that says what it is told to.

use llamactl_tests::fake_nvml::{Card, FakeNvml};
use llamactl_tests::wait::eventually;
use llamactl_tests::{DEADLINE, Daemon, Home, Stream};
use serde_json::{Value, json};

fn daemon(home: &Home, nvml: &FakeNvml) -> Daemon {
    home.daemon_by(nvml.under(home.llamactld(std::iter::empty::<&str>())))
}

#[test]
fn who_holds_the_memory_of_a_gpu_is_told_by_model_or_by_name() {
    let home = Home::with_fake_llama_server();
    let nvml = FakeNvml::of(&home, &[Card::new("GPU-a", 50)]);
    let _daemon = daemon(&home, &nvml);
    let gpu = |of: &Value| of["gpus"][0].clone();
    let alone = gpu(&home.call("gpu.list", json!({})));
    assert_eq!(alone["processes"], json!([]), "nobody is asked for twice as long as needed");

    home.fake_model("m", &json!({}));
    home.cli(["start", "m"]).ok();
    let pid = u32::try_from(
        home.call("server.show", json!({ "model": "m" }))["run"]["pid"].as_u64().unwrap(),
    )
    .unwrap();
    let foreign = std::process::id();
    let busy = Card {
        reasons: 0x4 | 0x20,
        processes: vec![(foreign, 1 << 20), (pid, 1 << 30)],
        ..Card::new("GPU-a", 50)
    };
    nvml.has(&[busy]);
    let mut samples = home.follow("metrics.follow", json!({}));
    let sample =
        samples.item_where(|it| !it["servers"][0]["process"]["gpu_memory_bytes"].is_null());
    assert_eq!(sample["data"]["servers"][0]["process"]["gpu_memory_bytes"], 1 << 30);

    let listed = home.cli(["gpus", "--json"]).ok().json();
    assert_eq!(listed["driver"], "570.86");
    assert_eq!(listed["busy_ratio"], 0.5);
    assert_eq!(listed["throttled_by"], json!(["power", "heat"]));
    assert_eq!(
        (&listed["energy_joules"], &listed["ecc_corrected_errors"]),
        (&json!(5.5), &json!(3))
    );
    let holders = &listed["processes"];
    assert_eq!((&holders[0]["model"], &holders[0]["pid"]), (&json!("m"), &json!(pid)), "{listed}");
    let name = std::fs::read_to_string(format!("/proc/{foreign}/comm")).unwrap();
    let other = json!({ "pid": foreign, "name": name.trim_end(), "model": null, "model_id": null,
        "memory_bytes": 1 << 20 });
    assert_eq!(holders[1], other, "{listed}");
    home.cli(["stop", "m"]).ok();
}

/// 70: a driver that hangs, a card that is lost, a library that fails and comes back with its cards in
/// another order. What is not known is null and said in one line; samples come all the time.
#[test]
fn a_driver_that_fails_or_hangs_takes_its_own_readings_alone_and_comes_back() {
    let home = Home::with_fake_llama_server();
    let (a, b) = (Card::new("GPU-a", 10), Card::new("GPU-b", 20));
    let nvml = FakeNvml::of(&home, &[a.clone(), b.clone()]);
    let daemon = daemon(&home, &nvml);
    let mut samples = home.follow("metrics.follow", json!({}));
    let mut seq = 0;
    let mut until = |samples: &mut Stream, wanted: Value| {
        let mut left = 60;
        samples.item_where(|it| {
            left -= 1;
            assert!(left > 0, "{wanted} does not come: {}", it["gpus"]);
            let now = it["seq"].as_u64().unwrap();
            assert!(seq == 0 || now == seq + 1, "a sample is missing before {now}");
            seq = now;
            let gpus = it["gpus"].as_array().cloned().unwrap_or_default();
            let busy: Vec<Value> = gpus
                .iter()
                .map(|gpu| json!([gpu["uuid"], gpu["index"], gpu["busy_ratio"]]))
                .collect();
            json!(busy) == wanted
        });
    };
    let well = json!([["GPU-a", 0, 0.1], ["GPU-b", 1, 0.2]]);
    let unknown = json!([["GPU-a", 0, null], ["GPU-b", 1, null]]);
    until(&mut samples, well.clone());

    nvml.hangs();
    until(&mut samples, unknown.clone());
    nvml.has(&[a.clone(), b.clone()]);
    until(&mut samples, well.clone());

    // One is lost: the other goes on.
    nvml.has(&[Card { fails: 15, ..a.clone() }, b.clone()]);
    until(&mut samples, json!([["GPU-a", 0, null], ["GPU-b", 1, 0.2]]));
    nvml.has(&[a.clone(), b.clone()]);
    until(&mut samples, well);

    // The driver is loaded anew, and counts in another order.
    nvml.fails(9);
    until(&mut samples, unknown);
    nvml.has(&[b, a]);
    until(&mut samples, json!([["GPU-b", 0, 0.2], ["GPU-a", 1, 0.1]]));
    let columns = home.call(
        "metrics.query",
        json!({ "series": ["gpu.busy_ratio"], "gpu": ["GPU-a"], "stat": "max" }),
    );
    assert_eq!(columns["series"][0]["labels"]["gpu"], "1", "{columns}");
    let most = columns["series"][0]["values"].as_array().unwrap();
    assert!(most.iter().all(|it| it.is_null() || *it == json!(0.1)), "{columns}");

    eventually(DEADLINE, "each is said", || daemon.stderr().matches("NVML answers").count() == 3);
    let said = daemon.stderr();
    let count = |text: &str| said.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("NVML does not answer: its GPUs are unknown"), 1, "{said}");
    assert_eq!(count("NVML fails, some GPUs are unknown now"), 2, "{said}");
    assert_eq!(count("NVML"), 6, "one line each, and one when it comes back: {said}");
}
