//! `llamactl model list`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::styled::RED;
use crate::output::table::{Align, Cell, Column, Table, known};
use crate::output::units;
use crate::pages;
use crate::view::{file_amiss, state_cell, state_text};
use clap::Args;
use llamactl_protocol::model::{FileState, Model};
use llamactl_protocol::server::Server;

/// List models
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model list",
    "llamactl model list -q",
    "llamactl model list --json | jq -r .path";
    "0 done  6 daemon unreachable"
))]
pub(crate) struct List {}

/// Lists models.
pub(crate) async fn run(output: &mut Output, reach: &Reach) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    if !output.for_people() {
        let models = pages::models(&daemon).await?;
        return if output.json {
            output.json_lines(&models)
        } else {
            output.names(models.iter().map(|model| &model.name))
        };
    }
    let (models, servers) = tokio::join!(pages::models(&daemon), pages::servers(&daemon, true));
    output.table(&table(&models?, &servers.unwrap_or_default()))
}

fn table(models: &[Model], servers: &[Server]) -> Table {
    let mut table = Table::new([
        Column("NAME", Align::Left),
        Column("ARCH", Align::Left),
        Column("PARAMS", Align::Right),
        Column("QUANT", Align::Left),
        Column("CTX", Align::Right),
        Column("SIZE", Align::Right),
        Column("STATE", Align::Left),
        Column("PATH", Align::Left),
    ]);
    for model in models {
        let server = servers.iter().find(|server| server.model_id == model.id);
        let file = &model.file;
        table.row([
            Cell::from(&model.name),
            known(file.architecture.as_ref()),
            known(file.parameters.map(units::count)),
            known(file.quantization.as_ref()),
            known(file.context_length.map(|tokens| tokens.to_string())),
            Cell::from(units::bytes(file.size_bytes)),
            state(server, model.file_state),
            Cell::from(model.path.to_string()),
        ]);
    }
    table
}

/// The server's state, and what is amiss with the file.
fn state(server: Option<&Server>, file: Option<FileState>) -> Cell {
    let Some(amiss) = file.and_then(file_amiss) else {
        return server.map_or_else(|| known(None::<&str>), state_cell);
    };
    let state = server.map(|server| format!("{}, ", state_text(server))).unwrap_or_default();
    Cell::styled(RED, format!("{state}{amiss}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::view::tests::server;
    use llamactl_protocol::model::ModelFile;
    use llamactl_protocol::server::State;

    /// A model with the usual facts.
    pub(crate) fn model(name: &str) -> Model {
        Model {
            id: 1,
            name: name.into(),
            aliases: vec![],
            path: "/m/a.gguf".into(),
            file: ModelFile {
                size_bytes: 5_046_586_573,
                parts: vec!["/m/a.gguf".into()],
                architecture: Some("qwen3".into()),
                parameters: Some(8_190_735_360),
                quantization: Some("Q4_K_M".into()),
                context_length: Some(40_960),
                ..ModelFile::default()
            },
            file_state: Some(FileState::Present),
            settings: [("ctx-size".to_owned(), 8192.into())].into(),
            revision: 3,
            added_at_ms: 1,
            changed_at_ms: 2,
        }
    }

    #[test]
    fn a_model_is_a_row() {
        let mut bare = model("b");
        bare.id = 2;
        bare.file = ModelFile::default();
        assert_eq!(
            table(&[model("a"), bare], &[server("a", State::Ready)]).render(false, None),
            "NAME  ARCH   PARAMS  QUANT     CTX     SIZE  STATE  PATH\n\
             a     qwen3    8.2B  Q4_K_M  40960  4.7 GiB  ready  /m/a.gguf\n\
             b     -           -  -           -      0 B  -      /m/a.gguf\n"
        );
    }

    #[test]
    fn what_is_amiss_with_a_file_stands_with_the_state() {
        let mut gone = model("a");
        gone.file_state = Some(FileState::Missing);
        let text = table(&[gone], &[server("a", State::Stopped)]).render(false, None);
        assert!(text.contains("  stopped, file missing  /m/a.gguf"), "{text}");
    }
}
