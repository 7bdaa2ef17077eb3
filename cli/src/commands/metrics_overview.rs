//! `llamactl metrics` at a terminal, without series.

use super::{gpus, status};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::facts::{Facts, listed};
use crate::output::table::{Cell, Column, Table, known};
use crate::output::units;
use llamactl_protocol::Hint;
use llamactl_protocol::metrics::{Host, LlamaSample, Sample, ServerSample};

/// What a person looks at first: the machine, its GPUs, a line for each server.
pub(super) fn show(output: &mut Output, sample: &Sample) -> Outcome {
    let mut facts = Facts::new();
    let swap = sample.host.swap_used_bytes.zip(sample.host.swap_total_bytes);
    let swap = swap.filter(|(_, all)| *all > 0);
    let swap = swap.map(|(used, all)| format!("swap {}", units::bytes_of(used, all)));
    facts.add_known("host", listed([status::host(&sample.host), swap]));
    let per_second = |word: &str, value: Option<f64>| {
        value.map(|value| format!("{word} {}", units::bytes_per_second(value)))
    };
    let Host { disk_read_bytes_per_second, disk_write_bytes_per_second, .. } = sample.host;
    let read = per_second("read", disk_read_bytes_per_second);
    let disk = listed([read, per_second("written", disk_write_bytes_per_second)]);
    facts.add_known("disk", disk);
    for gpu in sample.gpus.iter().flatten() {
        let power = gpus::power(gpu);
        let line = listed([Some(gpus::line(gpu)), power]).unwrap_or_default();
        facts.add(format!("GPU {}", gpu.index), line);
    }
    output.facts(facts)?;
    if !sample.servers.is_empty() {
        output.line_unflushed("")?;
        output.table(&servers(&sample.servers))?;
    }
    output.hint(&Hint::run("every series", ["llamactl", "metrics", "--full"]));
    output.flush()
}

/// What was measured of each server, by name.
fn servers(servers: &[ServerSample]) -> Table {
    let mut table = Table::new([
        Column::name("SERVER"),
        Column::number("TOK/S", 0),
        Column::number("PROMPT/S", 1),
        Column::number("SLOTS", 0),
        Column::number("WAITING", 2),
        Column::number("CPU", 1),
        Column::number("MEM", 0),
        Column::number("GPU MEM", 0),
    ]);
    let mut servers: Vec<&ServerSample> = servers.iter().collect();
    servers.sort_by(|a, b| a.model.cmp(&b.model));
    for ServerSample { model, process, llama, .. } in servers {
        let llama = llama.as_ref();
        let of =
            |value: fn(&LlamaSample) -> Option<f64>| known(llama.and_then(value).map(units::rate));
        let slots = llama.and_then(|llama| Some((llama.slots_busy?, llama.slots?)));
        let waiting = llama.and_then(|llama| llama.requests_deferred);
        table.row([
            Cell::from(model),
            of(|llama| llama.generated_tokens_per_second),
            of(|llama| llama.prompt_tokens_per_second),
            known(slots.map(|(busy, all)| format!("{busy}/{all}"))),
            known(waiting.map(|waiting| waiting.to_string())),
            known(process.cpus_busy.map(units::percent)),
            known(process.memory_anonymous_bytes.map(units::bytes)),
            known(process.gpu_memory_bytes.map(units::bytes)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn what_one_looks_at_first() {
        assert_screen("metrics-overview", |output| {
            let mut sample = scene::sample();
            let named =
                |name: &str| ServerSample { model: name.into(), ..sample.servers[0].clone() };
            sample.servers = vec![named(scene::LONG_NAME), named("gemma3")];
            sample.host.swap_total_bytes = Some(8 << 30);
            sample.host.swap_used_bytes = Some(0);
            show(output, &sample)
        });
    }
}
