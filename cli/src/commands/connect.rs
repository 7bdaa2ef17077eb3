//! `llamactl connect --stdio`

use super::run::target;
use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach, Stream, VERSION};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::remote::Greeting;
use clap::Args;
use llama_http::Target;
use llamactl_protocol::server::{ServerShow, State};
use llamactl_protocol::{Failure, Hint, Kind};
use std::future::pending;
use std::io;
use tokio::io::{AsyncWriteExt as _, copy, split, stdin, stdout};
use tokio::net::{TcpStream, UnixStream};

/// Pass bytes between standard input and output and the daemon
///
/// What llamactl --host runs on the other machine. The first line says whether there is a connection;
/// then come the bytes of the daemon, or of a model's server. The end of the input is passed on, and
/// the answer to what came before it still comes.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl connect --stdio",
    "ssh box llamactl connect --stdio --server qwen3";
    "0 the other side ended it, 3 no such model, 6 daemon unreachable, 8 the server does not run"
))]
pub(crate) struct Connect {
    /// By standard input and output, the only way there is: it may be left out
    #[arg(long)]
    stdio: bool,
    /// To the server of this model instead of the daemon
    #[arg(long, value_name = "NAME", add = model_names())]
    server: Option<String>,
    /// When to start a daemon if none runs
    #[arg(long, value_enum, value_name = "WHEN", default_value = "unless-stopped")]
    start: Autostart,
    /// End with the input, whatever is still to come
    #[arg(long)]
    until_eof: bool,
}

/// Connects, says so, and passes on what comes from either side.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Connect) -> Outcome {
    let connected = match &args.server {
        Some(model) => server(reach, args.start, model).await.map_err(|failure| (failure, false)),
        None => daemon(reach, args.start).await,
    };
    match connected {
        Ok((stream, greeting)) => {
            output.json(&greeting)?;
            pass_on(stream, args.until_eof).await
        }
        Err((failure, was_stopped)) => {
            let failure = Some(failure);
            let greeting = Greeting { failure, was_stopped, ..greeting() };
            output.json(&greeting)?;
            // For whoever tries it by hand.
            greeting.failure.map_or(Ok(()), |failure| Err(failure.into()))
        }
    }
}

fn greeting() -> Greeting {
    Greeting { version: VERSION.to_owned(), ..Greeting::default() }
}

async fn daemon(reach: &Reach, start: Autostart) -> Result<(Stream, Greeting), (Failure, bool)> {
    let (stream, socket, started_pid) = reach.socket_stream(start).await?;
    let greeting = Greeting { socket: Some(socket.into()), started_pid, ..greeting() };
    Ok((Box::new(stream), greeting))
}

async fn server(
    reach: &Reach,
    start: Autostart,
    model: &str,
) -> Result<(Stream, Greeting), Failure> {
    let daemon = reach.daemon(start).await?;
    daemon.quietly();
    let server = daemon.call(&ServerShow { model: model.to_owned().into() }).await?;
    if !matches!(server.state, State::Ready | State::Sleeping) {
        let why = format!("the server of {model} does not answer now");
        let hint = Hint::run("see how it is", ["llamactl", "status", model]);
        return Err(Failure::new(Kind::NotRunning, why).hint(hint));
    }
    let target = target(server)?;
    let stream: io::Result<Stream> = match &target {
        Target::Socket(socket) => {
            UnixStream::connect(socket).await.map(|it| Box::new(it) as Stream)
        }
        Target::Address(at) => TcpStream::connect(at).await.map(|it| Box::new(it) as Stream),
    };
    let stream = stream.map_err(|error| {
        let why = format!("the server of {model} at {target} cannot be reached: {error}");
        let failure = Failure::new(Kind::ServerFailed, why);
        match error.kind() {
            io::ErrorKind::PermissionDenied => failure.hint(Hint::run(
                "its socket is the daemon's alone; let it listen at a port",
                ["llamactl", "model", "set", model, "port=auto", "--restart"],
            )),
            _ => failure,
        }
    })?;
    Ok((stream, greeting()))
}

/// Passes bytes on, both ways, until the other side ends; with `until_eof` no longer than the input.
async fn pass_on(stream: Stream, until_eof: bool) -> Outcome {
    let (mut from, mut to) = split(stream);
    let there = async {
        // An input that breaks off has ended, and so has a side that takes no more.
        let _ = copy(&mut stdin(), &mut to).await;
        let _ = to.shutdown().await;
        if !until_eof {
            pending::<()>().await;
        }
    };
    let back = async {
        let mut output = stdout();
        copy(&mut from, &mut output).await?;
        output.flush().await
    };
    tokio::select! {
        () = there => Ok(()),
        ended = back => ended.map_err(Quit::from),
    }
}
