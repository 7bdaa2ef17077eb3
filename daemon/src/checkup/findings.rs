//! From facts to findings.

use super::facts::{Machine, ModelFacts, RegistryIs, StateFacts};
use llamactl_protocol::doctor::{Finding, FindingCode as Code};
use llamactl_protocol::model::FileState;
use llamactl_protocol::prose::{between, bytes, listed};
use llamactl_protocol::runtime::RuntimeEntry;
use llamactl_protocol::{Hint, Kind};

/// Less room on a disk is little: models' logs alone may take it in a day.
const LITTLE_ROOM_BYTES: u64 = 512 << 20;
/// Room for fewer files is little.
const FEW_INODES: u64 = 1000;
/// A copy is made at the first change of each day, so one that is older than the last change by more was
/// not made.
const COPY_AGE_MS: i64 = 2 * 24 * 60 * 60 * 1000;
/// A daemon with a few hundred clients and servers opens more files.
const FEW_DESCRIPTORS: u64 = 1024;
/// The clock of a machine may be put right by so much at any time.
const CLOCK_MS: i64 = 60_000;
/// More models than these are counted and not named.
const NAMED: usize = 3;

/// What a state directory shows.
#[must_use]
pub fn of_state(state: &StateFacts) -> (Vec<Finding>, Vec<String>) {
    let (mut findings, mut unknown) = (Vec::new(), Vec::new());
    let dir = state.dir.display().to_string();
    match &state.registry {
        RegistryIs::Whole => {}
        RegistryIs::Damaged(failure) => {
            findings.push(Finding::of_failure(Code::RegistryDamaged, failure).of(&dir));
        }
        RegistryIs::Unknown(why) => unknown.push(why.clone()),
    }
    if let Some(copy) = &state.copy {
        let path = copy.path.display().to_string();
        let backup = Hint::run(
            "make one now",
            ["llamactl", "daemon", "backup", &format!("{dir}/copies/registry-by-hand.db")],
        );
        match (&copy.problem, state.registry_changed_at_ms) {
            (Some(problem), _) => findings.push(
                Finding::new(Code::CopyDamaged, format!("the copy {path} is damaged: {problem}"))
                    .of(&path)
                    .hint(backup),
            ),
            (None, Some(changed)) if changed - copy.made_at_ms > COPY_AGE_MS => findings.push(
                Finding::new(
                    Code::CopyOld,
                    format!(
                        "the newest copy of the registry is {} older than its last change: {path}",
                        between(copy.made_at_ms, changed)
                    ),
                )
                .of(&path)
                .hint(backup),
            ),
            _ => {}
        }
    }
    for path in &state.foreign {
        let path = path.display().to_string();
        let message = format!("{path} belongs to another user than who runs the daemon");
        findings.push(Finding::new(Code::StateOwner, message).of(&path));
    }
    for path in &state.exposed {
        let path = path.display().to_string();
        let message = format!("others than its owner may read or change {path}");
        let chmod = Hint::run("take that away", ["chmod", "go-rwx", &path]);
        findings.push(Finding::new(Code::StateOpen, message).of(&path).hint(chmod));
    }
    if let Some(disk) = state.disk {
        if disk.free_bytes < LITTLE_ROOM_BYTES {
            let free = bytes(disk.free_bytes);
            let message = format!("the disk of {dir} has only {free} left");
            let logs = ["llamactl", "logs", "clear", "NAME"];
            findings.push(
                Finding::new(Code::DiskLow, message)
                    .of(&dir)
                    .hint(Hint::run("make room, or clear the logs of a model", logs)),
            );
        }
        if disk.inodes > 0 && disk.inodes_free < FEW_INODES {
            let message = format!(
                "the file system of {dir} has room for only {} further files",
                disk.inodes_free
            );
            findings.push(
                Finding::new(Code::InodesLow, message)
                    .of(&dir)
                    .hint(Hint::run("see how many there are", ["df", "-i", &dir])),
            );
        }
    }
    (findings, unknown)
}

/// What only a daemon finds.
#[must_use]
pub fn of_machine(machine: &Machine) -> Vec<Finding> {
    let mut findings = of_runtimes(machine);
    findings.extend(machine.models.iter().filter_map(|model| of_model(model, machine)));
    findings.extend(of_memory(machine));
    if let Some(program) = &machine.replaced_program {
        let message = format!("{} was replaced, and the old one runs", program.display());
        findings.push(
            Finding::new(Code::ProgramReplaced, message).hint(Hint::run(
                "run the new one; servers stay",
                ["llamactl", "daemon", "restart"],
            )),
        );
    }
    if let Some(few) = machine.descriptors.filter(|limit| *limit < FEW_DESCRIPTORS) {
        let message = format!("the daemon may have only {few} files open");
        let how = "raise `ulimit -n`, or LimitNOFILE= of its unit, and start it anew";
        findings.push(Finding::new(Code::Descriptors, message).hint(how));
    }
    if let Some(recorded) = machine.recorded_at_ms.filter(|at| *at > machine.now_ms + CLOCK_MS) {
        let message = format!(
            "the clock is {} behind what was recorded already",
            between(machine.now_ms, recorded)
        );
        findings.push(
            Finding::new(Code::ClockBehind, message)
                .hint(Hint::run("see whether it is kept right", ["timedatectl"])),
        );
    }
    for stranger in &machine.strangers {
        let (pid, program) = (stranger.pid.to_string(), stranger.program.display());
        let see = Hint::run("see whose it is", ["ps", "-o", "user,lstart,args", "-p", &pid]);
        let finding = match stranger.is_ours {
            true => {
                let message =
                    format!("{program} (pid {pid}) is of this registry, and no record tells of it");
                let restart = ["llamactl", "daemon", "restart"];
                Finding::new(Code::StrayServer, message)
                    .hint(Hint::run("let the daemon look for such servers again", restart))
            }
            false => {
                let message = format!("{program} (pid {pid}) runs, and is not this daemon's");
                Finding::new(Code::OtherServer, message)
            }
        };
        findings.push(finding.of(&pid).hint(see));
    }
    findings
}

fn of_runtimes(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_used = |entry: &RuntimeEntry| {
        entry.is_default || entry.named_by_defaults || !entry.models.is_empty()
    };
    let is_usable = |entry: &RuntimeEntry| entry.found && entry.problem.is_none();
    let has_any = machine.runtimes.iter().any(is_usable);
    for entry in &machine.runtimes {
        // The one that is found without being told need not be there where another is used.
        let is_registered = entry.added_at_ms.is_some();
        match &entry.problem {
            Some(problem) if !has_any && !is_registered && machine.runtimes.len() == 1 => {
                findings.push(Finding::of_failure(Code::NoRuntime, problem));
            }
            Some(problem) if is_registered || is_used(entry) && has_any => {
                let mut finding =
                    Finding::of_failure(Code::RuntimeUnusable, problem).of(&entry.name);
                if is_used(entry) {
                    finding.severity = llamactl_protocol::doctor::Severity::Error;
                }
                findings.push(finding);
            }
            None if entry.changed => {
                let name = entry.name.as_str();
                let message = format!(
                    "the llama-server of the runtime {name} was replaced since it was looked at"
                );
                let refresh = ["llamactl", "runtime", "refresh", name];
                findings.push(
                    Finding::new(Code::RuntimeChanged, message)
                        .of(name)
                        .hint(Hint::run("look at the new one", refresh)),
                );
            }
            _ => {}
        }
    }
    let default = machine.runtimes.iter().find(|entry| entry.is_default && is_usable(entry));
    match (machine.gpus, default) {
        (Some(gpus), Some(entry))
            if gpus > 0 && entry.devices.as_ref().is_some_and(Vec::is_empty) =>
        {
            let name = entry.name.as_str();
            let message = format!(
                "this machine has {gpus} GPU{}, and the runtime {name} finds none: models run on the CPU",
                if gpus == 1 { "" } else { "s" }
            );
            findings.push(
                Finding::new(Code::NoDevices, message)
                    .of(name)
                    .hint(Hint::run("see what it is", ["llamactl", "runtime", "show", name]))
                    .hint(Hint::run(
                        "add a build for the GPU",
                        ["llamactl", "runtime", "add", "FILE"],
                    )),
            );
        }
        _ => {}
    }
    if machine.nvidia_cards > machine.nvidia_told {
        let message = match machine.nvidia_told {
            0 => "there is an NVIDIA card, and its driver does not answer".to_owned(),
            told => format!(
                "there are {} NVIDIA cards, and the driver tells of {told}",
                machine.nvidia_cards
            ),
        };
        findings.push(
            Finding::new(Code::GpuDriver, message)
                .hint(Hint::run("see what the driver says", ["nvidia-smi"])),
        );
    }
    findings
}

fn of_model(model: &ModelFacts, machine: &Machine) -> Option<Finding> {
    let name = model.name.as_str();
    let finding = match (&model.problem, model.state) {
        (Some(problem), _) => {
            let mut finding = Finding::of_failure(Code::ModelGone, problem);
            finding.message = format!("{name}: {}", finding.message);
            if problem.kind != Kind::FileNotFound {
                finding.code = Code::ModelUnreadable;
                finding.severity = finding.code.severity();
            }
            finding
        }
        (None, Some(FileState::Changed)) => {
            let message = format!("{name}: its file is not the one that was registered");
            let verify = ["llamactl", "model", "verify", name];
            Finding::new(Code::ModelChanged, message).hint(Hint::run("look closer", verify))
        }
        (None, _) => {
            let limit = machine
                .locked_bytes
                .filter(|limit| model.is_locked && *limit < model.size_bytes)?;
            let message = format!(
                "{name} is to be held in memory ({}), and servers may hold {}",
                bytes(model.size_bytes),
                bytes(limit)
            );
            Finding::new(Code::MemoryLock, message)
                .hint("raise `ulimit -l`, or LimitMEMLOCK= of the unit, and start the daemon anew")
        }
    };
    Some(finding.of(name))
}

/// What runs, and what starts with the machine, beside the memory there is.
fn of_memory(machine: &Machine) -> Vec<Finding> {
    let Some(memory) = machine.memory_bytes else { return vec![] };
    let wanted: Vec<&ModelFacts> = machine.models.iter().filter(|model| model.is_wanted).collect();
    let has_gpu = machine.gpus.is_some_and(|gpus| gpus > 0);
    // On a GPU the weights are in its memory.
    let weights = |model: &ModelFacts| if has_gpu { 0 } else { model.size_bytes };
    let mut findings: Vec<Finding> = Vec::new();
    for model in wanted.iter().filter(|model| weights(model) > memory) {
        let name = model.name.as_str();
        let message = format!(
            "{name} has {}, and there are {} of memory",
            bytes(model.size_bytes),
            bytes(memory)
        );
        findings.push(
            Finding::new(Code::MemoryShort, message)
                .of(name)
                .hint("use a smaller quantization, or give the daemon's control group more memory"),
        );
    }
    if !findings.is_empty() {
        return findings;
    }
    let caching: Vec<&ModelFacts> =
        wanted.iter().copied().filter(|model| model.cache_bytes != Some(0)).collect();
    let sum = |of: &dyn Fn(&ModelFacts) -> u64| {
        wanted.iter().fold(0_u64, |sum, model| sum.saturating_add(of(model)))
    };
    let caches = sum(&|model| model.cache_bytes.unwrap_or(u64::MAX));
    let models = sum(&weights);
    if caching.is_empty() || caches.saturating_add(models) <= memory {
        return findings;
    }
    let mut names: Vec<String> =
        caching.iter().take(NAMED).map(|model| model.name.clone()).collect();
    if caching.len() > NAMED {
        names.push(format!("{} more", caching.len() - NAMED));
    }
    let caches = match caches {
        u64::MAX => "any amount of memory".to_owned(),
        caches => bytes(caches),
    };
    let beside =
        if models > 0 { format!(" beside models of {}", bytes(models)) } else { String::new() };
    let message = format!(
        "the prompt caches of {} may take {caches}{beside}, and there are {} of memory",
        listed(&names),
        bytes(memory)
    );
    let set = ["llamactl", "defaults", "set", "cache-ram=1024"];
    findings.push(
        Finding::new(Code::PromptCaches, message)
            .hint(Hint::run("let each take 1 GiB at most", set)),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::super::facts::{CopyFacts, Disk, Stranger};
    use super::*;
    use llamactl_protocol::Failure;
    use llamactl_protocol::doctor::Severity;
    use llamactl_protocol::runtime::Device;

    const GIB: u64 = 1 << 30;

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    fn runtime(name: &str) -> RuntimeEntry {
        RuntimeEntry {
            name: name.to_owned(),
            path: Some("/o/llama-server".into()),
            version: None,
            is_default: false,
            found: true,
            problem: None,
            changed: false,
            reports_progress: None,
            options_total: None,
            devices: Some(vec![]),
            environment: Default::default(),
            models: vec![],
            named_by_defaults: false,
            added_at_ms: Some(1),
            revision: Some(1),
        }
    }

    fn model(name: &str, size_bytes: u64) -> ModelFacts {
        let (is_wanted, cache_bytes) = (true, Some(8 * GIB));
        ModelFacts {
            name: name.to_owned(),
            size_bytes,
            is_wanted,
            cache_bytes,
            ..Default::default()
        }
    }

    fn wanted(memory: u64, gpus: usize, models: &[ModelFacts]) -> Vec<Finding> {
        of_machine(&Machine {
            memory_bytes: Some(memory),
            gpus: Some(gpus),
            models: models.to_vec(),
            ..Machine::default()
        })
    }

    #[test]
    fn a_sound_directory_has_no_findings_and_each_fault_has_its_own() {
        let day = 24 * 60 * 60 * 1000;
        let copy = CopyFacts { path: "/s/c.db".into(), made_at_ms: 10 * day, problem: None };
        let disk = Disk { free_bytes: GIB, inodes: 5000, inodes_free: 4000 };
        let sound = StateFacts {
            dir: "/s".into(),
            disk: Some(disk),
            registry_changed_at_ms: Some(11 * day),
            copy: Some(copy.clone()),
            ..StateFacts::default()
        };
        assert_eq!(of_state(&sound), (vec![], vec![]));
        let broken = |what: &str| {
            let mut state = sound.clone();
            match what {
                "registry_damaged" => {
                    state.registry = RegistryIs::Damaged(Failure::new(Kind::StoreFailed, "x"));
                }
                "copy_damaged" => {
                    state.copy = Some(CopyFacts { problem: Some("x".into()), ..copy.clone() });
                }
                "copy_old" => state.registry_changed_at_ms = Some(13 * day),
                "state_owner" => state.foreign = vec!["/s/a".into()],
                "state_open" => state.exposed = vec!["/s/a".into()],
                "disk_low" => state.disk = Some(Disk { free_bytes: GIB / 4, ..disk }),
                _ => state.disk = Some(Disk { inodes_free: 3, ..disk }),
            }
            of_state(&state).0
        };
        for what in [
            "registry_damaged",
            "copy_damaged",
            "copy_old",
            "state_owner",
            "state_open",
            "disk_low",
            "inodes_low",
        ] {
            assert_eq!(codes(&broken(what)), [what]);
        }
        // A file system that counts no files has none left, too.
        let uncounted = Disk { inodes: 0, inodes_free: 0, ..disk };
        assert!(of_state(&StateFacts { disk: Some(uncounted), ..sound.clone() }).0.is_empty());
        let unknown = RegistryIs::Unknown("it took too long".into());
        let (findings, not_checked) = of_state(&StateFacts { registry: unknown, ..sound });
        assert_eq!((findings, not_checked), (vec![], vec!["it took too long".to_owned()]));
    }

    #[test]
    fn prompt_caches_count_with_models_and_on_a_gpu_without() {
        assert_eq!(codes(&wanted(16 * GIB, 0, &[model("a", 9 * GIB)])), ["prompt_caches"]);
        assert!(wanted(18 * GIB, 0, &[model("a", 9 * GIB)]).is_empty());
        assert!(wanted(16 * GIB, 1, &[model("a", 9 * GIB)]).is_empty());
        let several: Vec<ModelFacts> =
            ["a", "b", "c", "d", "e"].map(|name| model(name, GIB)).into();
        let found = wanted(32 * GIB, 1, &several);
        let said = "the prompt caches of a, b, c and 2 more may take 40.0 GiB, and there are 32.0 GiB of memory";
        assert_eq!(found[0].message, said);
        let endless = ModelFacts { cache_bytes: None, ..model("a", GIB) };
        assert!(wanted(640 * GIB, 1, &[endless])[0].message.contains("any amount"));
        let off = ModelFacts { cache_bytes: Some(0), ..model("a", 9 * GIB) };
        assert!(wanted(10 * GIB, 0, std::slice::from_ref(&off)).is_empty());
        assert_eq!(codes(&wanted(8 * GIB, 0, &[off])), ["memory_short"]);
        let idle = ModelFacts { is_wanted: false, ..model("a", 90 * GIB) };
        assert!(wanted(8 * GIB, 0, &[idle]).is_empty());
    }

    #[test]
    fn what_is_wrong_with_runtimes_depends_on_who_uses_them() {
        let refused = || Some(Failure::new(Kind::RuntimeRefused, "It does not run."));
        let of = |runtimes: Vec<RuntimeEntry>, gpus| {
            of_runtimes(&Machine { runtimes, gpus: Some(gpus), ..Machine::default() })
        };
        let system = RuntimeEntry { added_at_ms: None, problem: refused(), ..runtime("system") };
        let default = RuntimeEntry { is_default: true, ..runtime("cpu") };
        assert_eq!(
            codes(&of(vec![RuntimeEntry { is_default: true, ..system.clone() }], 0)),
            ["no_runtime"]
        );
        assert!(of(vec![system.clone(), default.clone()], 0).is_empty());
        assert_eq!(codes(&of(vec![system.clone(), default.clone()], 2)), ["no_devices"]);
        let named = [Device {
            name: "CUDA0".into(),
            description: String::new(),
            memory_total_bytes: None,
            memory_free_bytes: None,
        }];
        let cuda = RuntimeEntry { devices: Some(named.into()), ..default.clone() };
        assert!(of(vec![system.clone(), cuda], 2).is_empty());
        let unused = RuntimeEntry { problem: refused(), ..runtime("old") };
        let found = of(vec![system.clone(), default.clone(), unused.clone()], 0);
        assert_eq!(
            (codes(&found), found[0].severity),
            (vec!["runtime_unusable"], Severity::Warning)
        );
        assert_eq!(found[0].message, "it does not run");
        let used = RuntimeEntry { models: vec!["m".into()], ..unused };
        assert_eq!(of(vec![system, default.clone(), used], 0)[0].severity, Severity::Error);
        let changed = RuntimeEntry { changed: true, ..default };
        assert_eq!(codes(&of(vec![changed], 0)), ["runtime_changed"]);
    }

    #[test]
    fn files_limits_clock_and_strangers() {
        let gone = Failure::new(Kind::FileNotFound, "/m/a is gone");
        let no_file = Failure::new(Kind::NotAFile, "/m/b is a named pipe, not a file");
        let shut = Failure::new(Kind::FileUnreadable, "/m/c: the daemon's user may not read it");
        let models = vec![
            ModelFacts { name: "gone".into(), problem: Some(gone), ..Default::default() },
            ModelFacts { name: "pipe".into(), problem: Some(no_file), ..Default::default() },
            ModelFacts { name: "shut".into(), problem: Some(shut), ..Default::default() },
            ModelFacts {
                name: "other".into(),
                state: Some(FileState::Changed),
                ..Default::default()
            },
            ModelFacts {
                name: "held".into(),
                is_locked: true,
                size_bytes: GIB,
                ..Default::default()
            },
            ModelFacts {
                name: "well".into(),
                state: Some(FileState::Present),
                ..Default::default()
            },
        ];
        let stranger = |is_ours| Stranger { pid: 7, program: "/o/llama-server".into(), is_ours };
        let found = of_machine(&Machine {
            now_ms: 1_000_000,
            recorded_at_ms: Some(1_000_000 + 2 * CLOCK_MS),
            replaced_program: Some("/usr/bin/llamactld".into()),
            nvidia_cards: 2,
            nvidia_told: 1,
            descriptors: Some(256),
            locked_bytes: Some(8 << 20),
            models,
            strangers: vec![stranger(true), stranger(false)],
            ..Machine::default()
        });
        assert_eq!(
            codes(&found),
            [
                "gpu_driver",
                "model_gone",
                "model_unreadable",
                "model_unreadable",
                "model_changed",
                "memory_lock",
                "program_replaced",
                "descriptors",
                "clock_behind",
                "stray_server",
                "other_server"
            ]
        );
    }
}
