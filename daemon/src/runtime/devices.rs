//! What `llama-server --list-devices` tells. Pure.

use llamactl_protocol::runtime::Device;

/// The most devices.
const MAX_DEVICES: usize = 64;
/// The longest text about one, in characters.
const MAX_CHARS: usize = 200;

/// The devices a list names: the indented lines `NAME: DESCRIPTION (TOTAL MiB, FREE MiB free)`
/// behind its heading. Whatever drivers print around them is passed over.
#[must_use]
pub(super) fn devices_in(output: &str) -> Vec<Device> {
    output
        .lines()
        .skip_while(|line| !line.trim_end().ends_with("devices:"))
        .skip(1)
        .filter_map(device)
        .take(MAX_DEVICES)
        .collect()
}

fn device(line: &str) -> Option<Device> {
    let (name, text) = line.strip_prefix([' ', '\t'])?.trim().split_once(": ")?;
    let is_name = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
    if !is_name {
        return None;
    }
    let memory = text.rsplit_once(" (").and_then(|(before, behind)| {
        let (total, free) = behind.strip_suffix(')')?.split_once(", ")?;
        Some((before, mebibytes(total)?, mebibytes(free.strip_suffix(" free")?)?))
    });
    let (description, total, free) = match memory {
        Some((before, total, free)) => (before, Some(total), Some(free)),
        None => (text, None, None),
    };
    Some(Device {
        name: name.to_owned(),
        description: description.chars().filter(|it| !it.is_control()).take(MAX_CHARS).collect(),
        memory_total_bytes: total,
        memory_free_bytes: free,
    })
}

fn mebibytes(text: &str) -> Option<u64> {
    text.strip_suffix(" MiB")?.parse::<u64>().ok()?.checked_mul(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices_come_with_their_memory() {
        let output = "ggml_cuda_init: found 1 CUDA devices:\n  \
                        Device 0: NVIDIA H100 PCIe, compute capability 9.0, VMM: yes\n\
                      Available devices:\n  \
                        CUDA0: NVIDIA H100 PCIe (81559 MiB, 80000 MiB free)\n  \
                        Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24000 MiB free)\n  \
                        RPC0: 10.0.0.7:50052\n";
        let devices = devices_in(output);
        let of = |name: &str| devices.iter().find(|it| it.name == name).unwrap();
        assert_eq!(of("CUDA0").description, "NVIDIA H100 PCIe");
        assert_eq!(of("CUDA0").memory_total_bytes, Some(81_559 << 20));
        assert_eq!(of("CUDA0").memory_free_bytes, Some(80_000 << 20));
        assert_eq!(of("Vulkan0").description, "AMD Radeon RX 7900 XTX (RADV NAVI31)");
        assert_eq!(of("RPC0").memory_total_bytes, None);
        assert_eq!(devices.len(), 3, "{devices:?}");
    }

    #[test]
    fn none_is_no_device() {
        assert_eq!(devices_in("Available devices:\n  (none)\n"), []);
        assert_eq!(devices_in("error: invalid argument: --list-devices\n"), []);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(text in "(\\PC|[\\n :(),]|devices:\n  |MiB){0,100}") {
            let _ = devices_in(&text);
        }
    }
}
