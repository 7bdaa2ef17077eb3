//! A whole command, carried out by llamactl there: what asks that machine itself, and not its daemon.

use super::Host;
use super::hops::Came;
use super::ssh::{Ssh, pass_on, skip_to_mark};
use crate::exit::{Outcome, Quit};
use crate::output;
use llamactl_protocol::{Failure, Kind};
use std::ffi::OsString;
use std::io;

/// Carries out the command that this process was given, there: what it prints is printed here, and it
/// ends as that one does.
///
/// # Errors
/// As [`super::open`]; how it ended.
pub(crate) async fn carry_out(host: &Host) -> Outcome {
    let mut ssh = Ssh::spawn(host, words(host, std::env::args_os().skip(1)))?;
    let came = ssh.reach().await;
    if came != Came::Found {
        return Err(ssh.failure(host, came).await.into());
    }
    let Ssh { mut child, stdin, stdout, mut stderr, .. } = ssh;
    // Nothing that runs there asks.
    drop(stdin);
    let errors = async {
        skip_to_mark(&mut stderr, &mut Vec::new()).await;
        pass_on(&mut stderr, io::stderr()).await
    };
    // Nobody is left to tell when stderr is gone.
    let (printed, _) = tokio::join!(pass_on(stdout, output::stdout::stdout()), errors);
    printed?;
    match child.wait().await.ok().and_then(|status| status.code()) {
        Some(0) => Ok(()),
        // No command of ours ends so.
        None | Some(255) => {
            let why = format!("the connection to {} ended before the command there did", host.name);
            Err(Failure::new(Kind::DaemonUnreachable, why).into())
        }
        Some(status) => Err(Quit::Told(u8::try_from(status).unwrap_or(1))),
    }
}

/// The words of this command as llamactl there is to read them: without the machine, and with the
/// socket that was named with it.
pub(super) fn words(host: &Host, mut typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let socket = host.socket.iter().flat_map(|socket| ["--socket".into(), socket.into()]);
    let mut words: Vec<OsString> = socket.collect();
    while let Some(word) = typed.next() {
        let is_all = word == "--host";
        if is_all {
            typed.next();
        }
        if !is_all && !word.to_str().is_some_and(|word| word.starts_with("--host=")) {
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_left_out_and_the_socket_goes_along() {
        let host = Host::parse("ssh://box/run/x.sock").unwrap();
        let typed =
            ["--host", "ssh://box", "daemon", "--json", "stop", "--host=x", "--timeout", "5s"];
        let words = words(&host, typed.iter().map(OsString::from));
        let expected = ["--socket", "/run/x.sock", "daemon", "--json", "stop", "--timeout", "5s"];
        assert_eq!(words, expected);
    }
}
