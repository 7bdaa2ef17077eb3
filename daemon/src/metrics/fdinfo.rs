//! What processes hold on GPUs of AMD and Intel: the kernel's drivers write it for each open file of a card.
//!
//! ```text
//!   /proc/812/fd/5 ─▶ /dev/dri/renderD128        a file of a card
//!   /proc/812/fdinfo/5: drm-pdev, drm-client-id, drm-resident-vram0 …
//!        several files of one client ─▶ counted once ─▶ memory of 812 on 0000:03:00.0
//! ```
//!
//! Only processes of our own user can be seen so: those of others are missing, and not 0. Formats:
//! `Documentation/gpu/drm-usage-stats.rst` of the kernel.

use super::gpu::ProcessMemory;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// What one client holds on one card, as one of its files says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Client {
    /// The card's address on the bus.
    card: String,
    id: u64,
    /// In the card's own memory; `None` where there is no such.
    own_bytes: Option<u64>,
    /// In the machine's.
    shared_bytes: Option<u64>,
}

impl Client {
    /// Reads what is written of an open file; `None` where it is of no card, or of one that does not say.
    fn parse(text: &str) -> Option<Client> {
        let (mut client, mut id) = (Client::default(), None);
        let mut resident = HashMap::new();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key {
                "drm-pdev" => value.clone_into(&mut client.card),
                "drm-client-id" => id = value.parse().ok(),
                _ => {
                    // The older word of one driver stands beside the newer one and means the same.
                    let region = key.strip_prefix("drm-resident-").map(|it| (it, true));
                    let region = region.or_else(|| Some((key.strip_prefix("drm-memory-")?, false)));
                    if let Some(((region, is_newer), bytes)) = region.zip(bytes(value)) {
                        let known = resident.entry(region).or_insert(bytes);
                        *known = if is_newer { bytes } else { *known };
                    }
                }
            }
        }
        for (region, bytes) in resident {
            let is_own = region.starts_with("vram") || region.starts_with("local");
            let sum = if is_own { &mut client.own_bytes } else { &mut client.shared_bytes };
            *sum = Some(sum.unwrap_or(0).saturating_add(bytes));
        }
        client.id = id?;
        (!client.card.is_empty()).then_some(client)
    }
}

/// `1024 KiB`, `1 MiB`, or bytes.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let shift = match unit.trim() {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// What the processes below `proc` hold, by card. Of a card named in `without_own` what they have in the
/// machine's memory counts too.
pub(super) fn held(proc: &Path, without_own: &[&str]) -> HashMap<String, ProcessMemory> {
    let mut held: HashMap<String, ProcessMemory> = HashMap::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else { continue };
        for client in clients(&entry.path()) {
            let counts_shared =
                client.own_bytes.is_none() || without_own.contains(&client.card.as_str());
            let shared = client.shared_bytes.filter(|_| counts_shared);
            let Some(bytes) =
                [client.own_bytes, shared].into_iter().flatten().reduce(u64::saturating_add)
            else {
                continue;
            };
            let of_process = held.entry(client.card).or_default().entry(pid).or_insert(Some(0));
            *of_process = of_process.map(|sum| sum.saturating_add(bytes));
        }
    }
    held
}

/// The clients that a process is, each once.
fn clients(process: &Path) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    // Of a process of another user the first read fails.
    for file in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        if !fs::read_link(file.path()).is_ok_and(|link| link.starts_with("/dev/dri")) {
            continue;
        }
        let text = fs::read_to_string(process.join("fdinfo").join(file.file_name()));
        let Some(client) = text.ok().and_then(|text| Client::parse(&text)) else { continue };
        if !clients.iter().any(|it| (&it.card, it.id) == (&client.card, client.id)) {
            clients.push(client);
        }
    }
    clients
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// An open file of a process below a `/proc` made of files.
    fn open(proc: &Path, pid: u32, fd: u32, link: &str, said: &str) {
        let dir = proc.join(pid.to_string());
        fs::create_dir_all(dir.join("fd")).unwrap();
        fs::create_dir_all(dir.join("fdinfo")).unwrap();
        symlink(link, dir.join(format!("fd/{fd}"))).unwrap();
        fs::write(dir.join(format!("fdinfo/{fd}")), said).unwrap();
    }

    const XE: &str = "pos:\t0\nflags:\t02100002\ndrm-driver:\txe\ndrm-client-id:\t7\n\
        drm-pdev:\t0000:03:00.0\ndrm-total-system0:\t0\ndrm-resident-system0:\t64 KiB\n\
        drm-resident-vram0:\t2 MiB\ndrm-cycles-ccs:\t12\n";

    #[test]
    fn a_client_with_several_files_of_a_card_holds_its_memory_once() {
        let proc = tempfile::tempdir().unwrap();
        let node = "/dev/dri/renderD128";
        open(proc.path(), 812, 5, node, XE);
        open(proc.path(), 812, 6, node, XE);
        open(proc.path(), 812, 7, node, &XE.replace("id:\t7", "id:\t8").replace("2 MiB", "1 MiB"));
        open(proc.path(), 812, 8, "/dev/dri/card1", &XE.replace("03:00", "e5:00"));
        open(proc.path(), 812, 9, "/tmp/copy", XE);
        open(proc.path(), 4711, 3, node, &XE.replace("2 MiB", "0"));
        fs::create_dir(proc.path().join("self")).unwrap();
        fs::create_dir(proc.path().join("9")).unwrap();
        let held = held(proc.path(), &["0000:e5:00.0"]);
        let on = |card: &str| held[card].clone();
        assert_eq!(
            on("0000:03:00.0"),
            ProcessMemory::from([(812, Some(3 << 20)), (4711, Some(0))])
        );
        assert_eq!(
            on("0000:e5:00.0"),
            ProcessMemory::from([(812, Some((2 << 20) + (64 << 10)))]),
            "what it has in the machine's memory counts where the card has none"
        );
    }

    #[test]
    fn each_driver_has_words_of_its_own() {
        let of = |lines: &str| {
            let client = Client::parse(&format!("drm-pdev: a\ndrm-client-id: 1\n{lines}")).unwrap();
            (client.own_bytes, client.shared_bytes)
        };
        let amd = "drm-memory-vram:\t512 KiB\ndrm-memory-gtt: \t16 KiB\ndrm-memory-cpu: \t0 KiB\n";
        assert_eq!(of(amd), (Some(512 << 10), Some(16 << 10)));
        let both = format!("{amd}drm-resident-vram:\t256 KiB\n");
        assert_eq!(of(&both).0, Some(256 << 10), "one region is not counted twice");
        assert_eq!(of(&format!("drm-resident-vram:\t256 KiB\n{amd}")).0, Some(256 << 10));
        assert_eq!(
            of("drm-resident-local0: 4096\ndrm-resident-system0: 1 KiB\n"),
            (Some(4096), Some(1024))
        );
        assert_eq!(of("drm-resident-system0: 1 KiB\n"), (None, Some(1024)));
        assert_eq!(of("drm-engine-render: 12 ns\ndrm-resident-vram0: many\n"), (None, None));
        assert_eq!(Client::parse("drm-pdev: a\n"), None);
        assert_eq!(Client::parse("drm-client-id: 1\n"), None);
        assert_eq!(Client::parse("pos: 0\nnonsense"), None);
    }
}
