//! The catalogue as a page.

use super::{Keep, SERIES, SeriesKind};
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# Series

<!-- Written from the catalogue in protocol/src/series; change that, not this page. -->

What is measured each second, by name:

```sh
llamactl metrics server.tokens_generated      # one series, of all models
llamactl metrics 'gpu.*' --gpu 0              # all of one GPU; `gpu` alone is the same as `gpu.*`
llamactl metrics server --model NAME -f       # all of one model, each time they are measured
llamactl metrics host.cpu_busy_ratio --since 1d --step 10m    # what was measured before
```

A counter is shown as its growth per second; what a model did over all its runs, `model`, as it stands. What is not known is `-`, in JSON `null`, and never 0.
What a series is measured of is no part of its name: those of `gpu` are told apart by `--gpu`, those
of `model` and `server` by `--model`. What is written for Prometheus, and where it reads it, is in
[prometheus.md](prometheus.md).

What is kept is kept each second for a day, each minute for a month and each hour for a year, with
minimum, mean, maximum and the number of samples; of a counter how much it grew. Models and GPUs keep
their history when they are renamed or come in another order.
";

/// The page of all series, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut scope = "";
    for series in SERIES {
        if series.scope().as_str() != scope {
            scope = series.scope().as_str();
            let _ = write!(page, "\n## {scope}\n\n");
            page.push_str(
                "| Series | Kind | Unit | Kept | What it tells |\n|---|---|---|---|---|\n",
            );
        }
        let kind = match series.kind {
            SeriesKind::Gauge => "gauge",
            SeriesKind::Counter => "counter",
        };
        let kept = match series.keep {
            Keep::History => "yes",
            Keep::Live => "no",
        };
        let (name, unit, help) = (series.name, series.unit.as_str(), series.help);
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {kept} | {help} |");
    }
    page
}
