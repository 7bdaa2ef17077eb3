//! `llamactl gpus`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::table::{Align, Cell, Column, Table, known};
use crate::output::units;
use clap::Args;
use llamactl_protocol::metrics::{Gpu, GpuList, GpuUse};

/// List the GPUs and how busy they are
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl gpus",
    "llamactl gpus --json | jq .memory_used_bytes";
    "0 done, also where there is no GPU  6 daemon unreachable"
))]
pub(crate) struct Gpus {}

/// Prints the GPUs; that there is none is said on stderr.
pub(crate) async fn run(output: &mut Output, reach: &Reach) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let gpus = daemon.call(&GpuList {}).await?.gpus;
    show(output, gpus.as_deref())
}

fn show(output: &mut Output, gpus: Option<&[GpuUse]>) -> Outcome {
    if output.json {
        return output.json_lines(gpus.unwrap_or_default());
    }
    match gpus {
        None => output.note("no GPU is known: there is no way to ask on this machine (no NVML)"),
        Some([]) => output.note("no GPU is known: the driver reports none"),
        Some(gpus) if output.quiet => return output.names(gpus.iter().map(|it| &it.gpu.uuid)),
        Some(gpus) => return output.table(&table(gpus)),
    }
    Ok(())
}

fn table(gpus: &[GpuUse]) -> Table {
    let mut table = Table::new([
        Column("GPU", Align::Right),
        Column("NAME", Align::Left),
        Column("BUSY", Align::Right),
        Column("MEM", Align::Right),
        Column("TOTAL", Align::Right),
        Column("TEMP", Align::Right),
        Column("POWER", Align::Right),
        Column("LIMIT", Align::Right),
        Column("FAN", Align::Right),
        Column("UUID", Align::Left),
    ]);
    for GpuUse { gpu, .. } in gpus {
        let watts = |value: Option<f64>| known(value.map(|value| format!("{value:.0} W")));
        table.row([
            Cell::from(gpu.index.to_string()),
            known(gpu.name.as_ref()),
            known(gpu.busy_ratio.map(units::percent)),
            known(gpu.memory_used_bytes.map(units::bytes)),
            known(gpu.memory_total_bytes.map(units::bytes)),
            known(gpu.temperature_celsius.map(|value| format!("{value:.0} °C"))),
            watts(gpu.power_watts),
            watts(gpu.power_limit_watts),
            known(gpu.fan_ratio.map(units::percent)),
            Cell::from(&gpu.uuid),
        ]);
    }
    table
}

/// A GPU on one line, for the status screen.
pub(crate) fn line(gpu: &Gpu) -> String {
    let memory = gpu
        .memory_used_bytes
        .zip(gpu.memory_total_bytes)
        .map(|(used, total)| format!("{} of {}", units::bytes(used), units::bytes(total)));
    let parts = [
        gpu.name.clone(),
        gpu.busy_ratio.map(|ratio| format!("{} busy", units::percent(ratio))),
        memory,
        gpu.temperature_celsius.map(|value| format!("{value:.0} °C")),
        gpu.power_watts.map(|value| format!("{value:.0} W")),
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
        assert_screen("gpus", |output| show(output, Some(&gpus)));
    }

    #[test]
    fn no_card_and_no_way_to_ask() {
        assert_screen("gpus-none", |output| show(output, Some(&[])).and(show(output, None)));
    }
}
