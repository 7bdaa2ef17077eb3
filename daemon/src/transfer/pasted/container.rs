//! `docker run` and its like: what of it is for the container, and what for the server in it. Pure.
//!
//! ```text
//!   docker run --rm -v /m:/models -e A=1 IMAGE -m /models/x.gguf
//!              ╰ skipped ╰ mount      ╰ variable ╰ skipped ╰── arguments, with /models/ read as /m/
//! ```

use super::program::is_server;
use super::shell::Expanded;
use super::unexpanded;
use crate::transfer::omissions::Omissions;
use std::collections::VecDeque;

/// Programs that run others in containers.
pub(super) const PROGRAMS: &[&str] =
    &["docker", "podman", "nerdctl", "docker-compose", "apptainer", "singularity"];

/// Options of theirs that take no value.
const SWITCHES: &[&str] = &[
    "--detach",
    "--init",
    "--interactive",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--privileged",
    "--publish-all",
    "--quiet",
    "--read-only",
    "--replace",
    "--rm",
    "--sig-proxy",
    "--tty",
    "--tls",
    "--no-deps",
    "--build",
    "--service-ports",
    "--nv",
    "--rocm",
    "--cleanenv",
    "--containall",
    "--writable-tmpfs",
];

/// Short ones, which may stand together.
const SHORT_SWITCHES: &[u8] = b"ditPqT";

/// Said by nothing that matters to a server outside a container.
const SILENT: &[&str] =
    &["--rm", "--detach", "--interactive", "--tty", "--init", "--name", "--pull"];

/// What a container has of the machine, and what it is given.
#[derive(Debug, Default)]
pub(super) struct Container {
    pub(super) variables: Vec<(String, Expanded)>,
    /// Paths in the container, and where they lie outside.
    mounts: Vec<(String, String)>,
}

/// Takes the words off that are for the program that runs the container, up to the image and the
/// server's name behind it.
pub(super) fn take(words: &mut VecDeque<Expanded>, left_out: &mut Omissions) -> Container {
    let mut container = Container::default();
    // `compose`, then `run`, `exec`, `create`; options may stand before.
    while let Some(word) = words.pop_front() {
        if ["run", "exec", "create"].contains(&word.text.as_str()) {
            break;
        }
    }
    while words.front().is_some_and(|word| word.text.starts_with('-')) {
        let Some(option) = words.pop_front() else { break };
        let (flag, joined) = match option.text.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => {
                (flag.to_owned(), Some(value.to_owned()))
            }
            _ => (option.text.clone(), None),
        };
        let letters = flag.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let is_switch = match letters {
            Some(letters) => letters.bytes().all(|it| SHORT_SWITCHES.contains(&it)),
            None => SWITCHES.contains(&flag.as_str()),
        };
        // `-p8080:8080` is one word.
        let (flag, joined) = match letters {
            Some(letters) if !is_switch && letters.len() > 1 => {
                let (short, value) = flag.split_at(2);
                (short.to_owned(), Some(value.trim_start_matches('=').to_owned()))
            }
            _ => (flag, joined),
        };
        let value = match joined {
            Some(value) => Some(Expanded { text: value, unknown: option.unknown }),
            None if is_switch => None,
            None => words.pop_front(),
        };
        container.option(&flag, value, left_out);
    }
    let _image = words.pop_front();
    // The image of all programs is told which with its first word.
    words.pop_front_if(|word| {
        is_server(&word.text) || ["--server", "-s"].contains(&word.text.as_str())
    });
    for (_, value) in &mut container.variables {
        value.text = outside(&container.mounts, &value.text);
    }
    container
}

impl Container {
    fn option(&mut self, flag: &str, value: Option<Expanded>, left_out: &mut Omissions) {
        let value = value.unwrap_or_default();
        match flag {
            "-e" | "--env" => match value.text.split_once('=') {
                Some((name, text)) => {
                    let value = Expanded { text: text.to_owned(), unknown: value.unknown };
                    self.variables.push((name.to_owned(), value));
                }
                None => left_out
                    .add(format!("{flag} {}", value.text), unexpanded(&format!("${}", value.text))),
            },
            "--env-file" => left_out.add(
                format!("--env-file {}", value.text),
                "its variables are not read: llamactl model import --format command FILE reads such a \
                 file, llamactl model set NAME env.VARIABLE=… sets one",
            ),
            "-v" | "--volume" | "-B" | "--bind" => {
                let mut parts = value.text.split(':');
                self.mount(parts.next(), parts.next(), &value, left_out);
            }
            "--mount" => {
                let field = |names: [&str; 3]| {
                    value.text.split(',').find_map(|field| {
                        let (name, text) = field.split_once('=')?;
                        names.contains(&name).then_some(text)
                    })
                };
                let from = field(["source", "src", "from"]);
                let to = field(["target", "dst", "destination"]);
                self.mount(from, to, &value, left_out);
            }
            _ if SILENT.contains(&flag)
                || SWITCHES.contains(&flag)
                || flag.bytes().skip(1).all(|it| SHORT_SWITCHES.contains(&it)) => {}
            _ => left_out.add(
                format!("{flag} {}", value.text).trim_end(),
                "it is for the container; llamactl runs llama-server without one",
            ),
        }
    }

    fn mount(
        &mut self,
        from: Option<&str>,
        to: Option<&str>,
        value: &Expanded,
        left_out: &mut Omissions,
    ) {
        match (from, to, &value.unknown) {
            (Some(from), Some(to), None) if from.starts_with(['/', '.', '~']) => {
                let end = |path: &str| path.trim_end_matches('/').to_owned();
                self.mounts.push((end(to), end(from)));
            }
            _ => left_out.add(
                format!("the volume {}", value.text),
                "it names no directory of this machine: write the model's path as it is outside the \
                 container",
            ),
        }
    }

    /// An argument with the paths that it has outside the container.
    pub(super) fn outside(&self, argument: &str) -> String {
        match argument.split_once('=') {
            Some((flag, path)) if flag.starts_with("--") => {
                format!("{flag}={}", outside(&self.mounts, path))
            }
            _ => outside(&self.mounts, argument),
        }
    }
}

fn outside(mounts: &[(String, String)], path: &str) -> String {
    let moved = mounts.iter().find_map(|(inside, outside)| {
        let rest = path.strip_prefix(inside.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{outside}{rest}"))
    });
    moved.unwrap_or_else(|| path.to_owned())
}
