//! `llamactl gpus`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::table::{Cell, Column, Table, known};
use crate::output::units;
use clap::Args;
use llamactl_protocol::metrics::{Gpu, GpuList, GpuProcess, GpuUse};

/// List GPUs, their load, and who holds their memory
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl gpus",
    "llamactl gpus --json | jq .memory_used_bytes";
    "0 done, also where there is no GPU, 6 daemon unreachable"
))]
pub(crate) struct Gpus {}

/// Prints the GPUs; that there is none is said on stderr.
pub(crate) async fn run(output: &mut Output, reach: &Reach, _: Gpus) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let gpus = daemon.call(&GpuList {}).await?.gpus;
    show(output, gpus.as_deref())
}

fn show(output: &mut Output, gpus: Option<&[GpuUse]>) -> Outcome {
    if output.json {
        return output.json_lines(gpus.unwrap_or_default());
    }
    match gpus {
        None => output.note("no GPU found: NVML is not installed"),
        Some([]) => output.note("no GPU found: the driver reports none"),
        Some(gpus) if output.quiet => return output.names(gpus.iter().map(|it| &it.gpu.uuid)),
        Some(gpus) => return output.table(&table(gpus)),
    }
    Ok(())
}

fn table(gpus: &[GpuUse]) -> Table {
    let mut table = Table::new([
        Column::number("GPU", 0),
        Column::text("NAME", 0),
        Column::number("BUSY", 0),
        Column::number("MEMORY", 0),
        Column::number("TEMP", 1),
        Column::number("POWER", 2),
        Column::number("FAN", 3),
        Column::text("DRIVER", 4),
        Column::text("UUID", 5),
    ])
    .with_remarks("PROCESSES");
    for GpuUse { gpu, processes } in gpus {
        let cells = [
            Cell::from(gpu.index.to_string()),
            known(gpu.name.as_ref()),
            known(gpu.busy_ratio.map(units::percent)),
            known(memory(gpu)),
            known(gpu.temperature_celsius.map(units::celsius)),
            known(power(gpu)),
            known(gpu.fan_ratio.map(units::percent)),
            known(gpu.driver.as_ref()),
            Cell::from(&gpu.uuid),
        ];
        table.row_with(cells, holders(processes.as_deref().unwrap_or_default()));
    }
    table
}

/// `gemma3 7.9 GiB, python3 (pid 812) 4.9 GiB`: whose memory it is; `None` where nobody holds any.
fn holders(processes: &[GpuProcess]) -> Option<String> {
    let holder = |process: &GpuProcess| {
        let who = match (&process.model, &process.name) {
            (Some(model), _) => model.clone(),
            (None, Some(name)) => format!("{name} (pid {})", process.pid),
            (None, None) => format!("pid {}", process.pid),
        };
        let held = process.memory_bytes.map(|held| format!(" {}", units::bytes(held)));
        Some(who + &held.unwrap_or_default())
    };
    crate::output::facts::listed(processes.iter().map(holder))
}

/// `18.2 of 24.0 GiB`
fn memory(gpu: &Gpu) -> Option<String> {
    let (used, total) = gpu.memory_used_bytes.zip(gpu.memory_total_bytes)?;
    Some(units::bytes_of(used, total))
}

/// `312 of 450 W`
pub(crate) fn power(gpu: &Gpu) -> Option<String> {
    let limit = gpu.power_limit_watts.map(|limit| format!(" of {limit:.0}")).unwrap_or_default();
    gpu.power_watts.map(|watts| format!("{watts:.0}{limit} W"))
}

/// A GPU on one line: `RTX 4090, 87%, memory 18.2 of 24.0 GiB, 67 °C`.
pub(crate) fn line(gpu: &Gpu) -> String {
    let parts = [
        gpu.name.clone(),
        gpu.busy_ratio.map(units::percent),
        memory(gpu).map(|memory| format!("memory {memory}")),
        gpu.temperature_celsius.map(units::celsius),
    ];
    crate::output::facts::listed(parts).unwrap_or_else(|| units::UNKNOWN.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn cards_that_say_much_or_little() {
        let mut silent = Gpu { uuid: "GPU-2".into(), index: 1, name: None, ..scene::gpu() };
        (silent.busy_ratio, silent.power_watts, silent.power_limit_watts) = (None, None, None);
        let gpus = [scene::gpu(), silent].map(|gpu| GpuUse { gpu, processes: None });
        let process = |pid, name: Option<&str>, model: Option<&str>, memory_bytes| GpuProcess {
            pid,
            name: name.map(str::to_owned),
            model: model.map(str::to_owned),
            model_id: model.map(|_| 1),
            memory_bytes,
        };
        let [mut first, second] = gpus;
        first.processes = Some(vec![
            process(4711, Some("llama-server"), Some("gemma3"), Some(7 << 30)),
            process(812, Some("python3"), None, Some(4 << 30)),
            process(813, None, None, None),
        ]);
        let gpus = [first, second];
        assert_screen("gpus", |output| show(output, Some(&gpus)));
    }

    #[test]
    fn no_card_and_no_way_to_ask() {
        assert_screen("gpus-none", |output| show(output, Some(&[])).and(show(output, None)));
    }
}
