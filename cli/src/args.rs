//! The command line: its tree, its global options, its help.
//!
//! Each command's own arguments stand with the command, in `commands/`.

use crate::commands::Command;
use crate::connection::{AtOnce, Reach, Silence, Told, VERSION};
use crate::help_page::laid_out;
use crate::output::{ColourChoice, Format, Look};
use crate::remote::Host;
use crate::tree::One as _;
use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use llamactl_protocol::{Failure, Kind, place};
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

/// The text below a command's options: examples and exit codes.
macro_rules! more {
    ($($example:literal),+ ; $exits:literal) => {
        concat!(
            "Examples:\n", $("  ", $example, "\n",)+
            "\nGlobal: --json -q --full --color --host --socket --no-autostart (help options)\n",
            "Exit codes: ", $exits
        )
    };
}
pub(crate) use more;

/// A tour and the commands, grouped by what people do, as `llamactl help` and `llamactl --help`
/// show them.
pub(crate) const COMMANDS: &str = "  \
  llamactl model add ~/models/qwen3-8b-q4_k_m.gguf --name qwen3
  llamactl start qwen3
  llamactl run qwen3 \"Why is the sky blue?\"
If it does not start: llamactl why qwen3, then llamactl logs qwen3

Servers     start stop restart wait     change what runs, and wait for it
            ps status why events logs   see what runs, and what happened
            run                         ask a model, or chat with it
Models      model add scan list show verify copy rename alias remove
            model export import         take models elsewhere and back
Settings    model set unset edit args key history diff rollback
            defaults set unset show     for all models; help settings [KEY]
Builds      runtime add list show use set unset refresh remove
Machine     metrics gpus top
Daemon      daemon start stop restart status logs
            daemon install uninstall backup restore check-config report
            doctor version rpc connect completions
Help for one: llamactl help start. More: help options, exit-codes, remote";

/// What every command takes, as `llamactl help options` shows it.
pub(crate) const OPTIONS: &str = "\
Every command takes these, before or after its name:
  --json            One JSON object per line, for programs; an error is one line on stderr
  -q, --quiet       Names only, one per line; nothing on stderr but errors
  --full            All columns of tables, and nothing cut
  --color WHEN      auto, always or never; NO_COLOR switches it off too
  --host HOST       Another machine: ssh://[user@]machine[:port], or a name of llamactl.toml
                    [env: LLAMACTL_HOST]
  --socket PATH     The daemon's socket, and no other [env: LLAMACTL_SOCKET]
  --no-autostart    Do not start the daemon when none runs [env: LLAMACTL_NO_AUTOSTART]
  -h, --help        The help of the command; -h is shorter
COLUMNS sets the width at a terminal.";

/// What a command ends with, as `llamactl help exit-codes` shows it.
pub(crate) const EXITS: &str = "  \
  0  done             5  a value that cannot be
  1  failed           6  no daemon answers
  2  used wrongly     7  the time ran out
  3  not found        8  the server failed
  4  in conflict    130  interrupted (Ctrl-C)";

const TEMPLATE: &str = "{about}\n{before-help}";

/// What llamactl is.
pub(crate) const ABOUT: &str =
    "llamactl runs llama.cpp's llama-server the way an init system runs services";

/// llamactl runs llama.cpp's llama-server the way an init system runs services
#[derive(Parser, Debug)]
#[command(
    name = "llamactl",
    version,
    help_template = TEMPLATE,
    before_help = COMMANDS,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes, before or after its name.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The daemon's socket; no other is tried then, and only daemon start starts one there
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "PATH",
        env = "LLAMACTL_SOCKET",
        hide_env_values = true,
        display_order = 901
    )]
    socket: Option<OsString>,

    // Not as a comment for rustdoc, which takes the brackets for links.
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "HOST",
        display_order = 900,
        help = "Another machine, reached by ssh: ssh://[user@]machine[:port], or a name of llamactl.toml"
    )]
    host: Option<String>,

    /// Do not start the daemon when none runs
    #[arg(
        long,
        global = true,
        hide = true,
        env = "LLAMACTL_NO_AUTOSTART",
        hide_env_values = true,
        value_parser = FalseyValueParser::new(),
        display_order = 902
    )]
    no_autostart: bool,

    /// Print one JSON object per line
    #[arg(long, global = true, hide = true, display_order = 903)]
    json: bool,

    /// Print names only
    #[arg(long, short, global = true, hide = true, display_order = 904)]
    quiet: bool,

    /// All columns of tables, and nothing cut
    #[arg(long, global = true, hide = true, display_order = 905)]
    full: bool,

    /// When to use colour; NO_COLOR switches it off too
    #[arg(
        long,
        global = true,
        hide = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        display_order = 906
    )]
    color: ColourChoice,
}

impl Cli {
    /// Reads a command line, its program first: by the tree of its command alone, and where that cannot
    /// read it by the whole tree, which knows what to say.
    ///
    /// # Errors
    /// It is none; or it asks for help or the version, which is the text of the error.
    pub(crate) fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
        match Cli::read_by_one(words) {
            Err(error) if error.kind() != ErrorKind::DisplayVersion => Cli::read_by_all(words),
            read => read,
        }
    }

    fn read_by_all(words: &[OsString]) -> Result<Cli, clap::Error> {
        let is_short = words.iter().any(|word| word == "-h");
        let look = Look::of(std::io::stdout(), ColourChoice::Never, false);
        let mut tree = laid_out(Cli::command(), !is_short, look.page_columns());
        Cli::from_arg_matches(&tree.try_get_matches_from_mut(words)?)
    }

    fn read_by_one(words: &[OsString]) -> Result<Cli, clap::Error> {
        let root = || Global::augment_args(clap::Command::new("llamactl").version(VERSION));
        let mut names = words.iter().skip(1).map(OsString::as_os_str);
        let mut tree = Command::one(root(), &mut names).unwrap_or_else(root);
        let read = tree.try_get_matches_from_mut(words);
        // The process ends before its memory would be wanted.
        std::mem::forget(tree);
        let mut matches = read?;
        let cli = Cli::from_arg_matches_mut(&mut matches);
        std::mem::forget(matches);
        cli
    }
}

impl Global {
    /// How output is wanted.
    pub(crate) fn format(&self) -> Format {
        Format { json: self.json, quiet: self.quiet, full: self.full, colour: self.color }
    }

    /// How the daemon is to be reached.
    ///
    /// # Errors
    /// As [`Host::of`]; two places are named.
    pub(crate) fn reach(&self) -> Result<Reach, Failure> {
        let socket = self.socket.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
        let told = if self.json || self.quiet { Told::Nobody } else { Told::Terminal };
        let silence = Silence::usual(told);
        let reach = Reach {
            host: None,
            socket,
            no_autostart: self.no_autostart,
            silence,
            at_once: AtOnce::default(),
        };
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        // What is typed goes before what the environment says.
        let is_typed = self.socket.is_some() && self.socket != variable(place::SOCKET_VARIABLE);
        let named = match &self.host {
            Some(typed) if is_typed && !typed.is_empty() => {
                return Err(Failure::new(
                    Kind::Usage,
                    "--host and --socket name two places; --host takes the socket there in its address",
                )
                .hint("for example --host ssh://box/run/llamactl/llamactld.sock"));
            }
            Some(typed) => Some(typed.clone()),
            None if is_typed => None,
            None => variable(place::HOST_VARIABLE).map(|host| host.to_string_lossy().into_owned()),
        };
        let Some(named) = named.filter(|named| !named.is_empty()) else { return Ok(reach) };
        let host = Host::of(&named, self.host.is_none())?;
        Ok(Reach { socket: host.socket.clone(), host: Some(Rc::new(host)), ..reach })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::help;
    use crate::output::screen::{COLUMNS, assert_screen, assert_text};
    use crate::output::width::width;

    /// Every command that does something, with its full name.
    fn leaves(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands() {
            let name = format!("{name} {}", sub.get_name());
            if sub.is_subcommand_required_set() {
                leaves(sub, &name, found);
            } else {
                found.push((name.trim().to_owned(), sub.clone()));
            }
        }
    }

    fn all() -> Vec<(String, clap::Command)> {
        let mut command = Cli::command();
        command.build();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        found
    }

    #[test]
    fn lists_say_what_the_commands_say() {
        let built = all();
        let command = Cli::command();
        for noun in command.get_subcommands().filter(|noun| noun.has_subcommands()) {
            for verb in noun.get_subcommands() {
                let name = format!("{} {}", noun.get_name(), verb.get_name());
                let (_, whole) = built.iter().find(|(known, _)| *known == name).unwrap();
                let said = |command: &clap::Command| command.get_about().map(ToString::to_string);
                assert!(said(verb).is_some(), "{name}");
                assert_eq!(said(verb), said(whole), "{name}");
            }
        }
    }

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_with_examples_and_exit_codes() {
        for (name, command) in all() {
            assert!(command.get_about().is_some(), "{name} says nothing");
            let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(more.contains("Examples:\n  llamactl"), "{name} has no examples");
            assert!(more.contains("Exit codes: 0 "), "{name} has no exit codes");
        }
    }

    #[test]
    fn the_list_of_commands_is_complete() {
        for (name, _) in all() {
            let known = match name.split_once(' ') {
                Some((_, verb)) => COMMANDS.contains(verb),
                None => COMMANDS.split_whitespace().any(|word| word == name),
            };
            assert!(known, "{name} is not in the list");
        }
    }

    /// The commands of ours in a line as a shell reads it.
    fn commands_in(line: &str) -> Vec<Vec<String>> {
        let ends = |word: &str| matches!(word, "|" | ";" | "&&" | "||" | ">" | "<" | "\\");
        let line = line.replace(';', " ; ").replace("$(", " $( ").replace(')', " ) ");
        let words = shlex::split(&line).unwrap_or_default();
        words
            .split(|word| ends(word) || word == "$(" || word == ")")
            .filter_map(|words| {
                let from = words.iter().position(|word| word == "llamactl")?;
                let by_xargs = words.iter().any(|word| word == "xargs");
                let rest = words.get(from..)?.iter().cloned();
                Some(rest.chain(by_xargs.then(|| "NAME".to_owned())).collect())
            })
            .collect()
    }

    #[test]
    fn every_command_in_the_readme_is_one() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let (mut shell, mut console, mut seen) = (false, false, 0);
        for line in readme.lines() {
            if let Some(language) = line.strip_prefix("```") {
                shell = language == "sh";
                console = language == "console";
                continue;
            }
            let typed =
                if shell { Some(line) } else { line.strip_prefix("$ ").filter(|_| console) };
            let Some(typed) = typed.filter(|line| !line.trim_start().starts_with('#')) else {
                continue;
            };
            for command in commands_in(typed) {
                let parsed = Cli::try_parse_from(&command);
                let is_help = |error: &clap::Error| !error.use_stderr();
                assert!(
                    parsed.is_ok() || parsed.as_ref().is_err_and(is_help),
                    "{line}: {command:?}"
                );
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }

    /// Whether a line is a command; it is read as by the whole tree.
    fn is_read_alike(read: fn(&[OsString]) -> Result<Cli, clap::Error>, line: &[String]) -> bool {
        let words: Vec<OsString> = line.iter().map(OsString::from).collect();
        let told = |error: &clap::Error| error.kind() == ErrorKind::DisplayVersion;
        // Times are read as of now, and a millisecond may pass between the two.
        for _ in 0..50 {
            let (whole, one) = (Cli::try_parse_from(&words), read(&words));
            match (&whole, &one) {
                (Ok(whole), Ok(one)) if format!("{whole:?}") == format!("{one:?}") => return true,
                (Ok(_), Ok(_)) => continue,
                (Err(whole), Err(one)) if told(whole) || told(one) => {
                    assert_eq!(whole.to_string(), one.to_string(), "{line:?}");
                }
                (Err(_), Err(_)) => {}
                _ => panic!("{line:?}: {whole:?} {one:?}"),
            }
            return false;
        }
        panic!("{line:?} is not read alike")
    }

    /// The ways to give an argument: with each of its names, and a value of each sort where it has one.
    fn given(argument: &clap::Arg) -> Vec<Vec<String>> {
        let long = argument.get_long_and_visible_aliases().unwrap_or_default();
        let long = long.into_iter().chain(argument.get_all_aliases().unwrap_or_default());
        let short = argument.get_short_and_visible_aliases().unwrap_or_default();
        let names = long.map(|name| format!("--{name}"));
        let names: Vec<String> = names.chain(short.iter().map(|name| format!("-{name}"))).collect();
        if !argument.get_action().takes_values() {
            return names.into_iter().map(|name| vec![name]).collect();
        }
        let possible = argument.get_possible_values();
        let possible = possible.iter().map(|value| value.get_name().to_owned());
        let values = possible.chain(["x", "1", "10s", "a=b", "2026-01-01"].map(str::to_owned));
        let with = |value: String| match names.is_empty() {
            true => vec![vec![value]],
            false => names.iter().map(|name| vec![name.clone(), value.clone()]).collect(),
        };
        values.flat_map(with).collect()
    }

    #[test]
    fn a_command_is_read_by_its_own_tree_as_by_the_whole() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_read_alike = |line: &[String]| is_read_alike(Cli::read_by_one, line);
        let mut read = 0;
        for (name, command) in all() {
            let (nouns, verb) = name.rsplit_once(' ').unwrap_or(("", &name));
            for verb in std::iter::once(verb).chain(command.get_all_aliases()) {
                let path = words(&format!("llamactl {nouns} {verb}"));
                // As few places as it needs, of the first sort that does.
                let places: Vec<_> = command.get_positionals().map(given).collect();
                let least = (0..=places.len())
                    .flat_map(|count| (0..5).map(move |sort| (count, sort)))
                    .map(|(count, sort)| {
                        let sorts =
                            |ways: &Vec<Vec<String>>| ways[sort.min(ways.len() - 1)].clone();
                        [path.clone(), places[..count].iter().flat_map(sorts).collect()].concat()
                    })
                    .find(|line| is_read_alike(line));
                let least = least.unwrap_or_else(|| panic!("{path:?} {places:?}"));
                for argument in command.get_arguments() {
                    let mut is_read = false;
                    for way in given(argument) {
                        for base in [&least, &path] {
                            is_read |= is_read_alike(&[&base[..], &way].concat());
                        }
                        let first = [&least[..1], &way, &least[1..]].concat();
                        assert!(!is_read_alike(&first) || argument.is_global_set(), "{first:?}");
                    }
                    read += usize::from(is_read);
                }
                let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                for example in more.lines().flat_map(commands_in) {
                    assert!(is_read_alike(&example), "{example:?}");
                }
            }
        }
        assert!(read > 500, "so many arguments were read in one way at least: {read}");
    }

    #[test]
    fn what_the_tree_of_one_command_cannot_read_the_whole_does() {
        let odd = "|--version|-V|--json --version|ps --version|--help|help|-q|x|model|model ls x|\
                   model help add|--socket ps ps|--socket model list|model --socket list show m|\
                   --color ps|-- ps|ps -- ps|run m -- ps|ps ps";
        for line in odd.split('|').map(|line| format!("llamactl {line}")) {
            let line: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            is_read_alike(Cli::read, &line);
        }
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in [["llamactl", "--json", "ps"], ["llamactl", "ps", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().global.format().json);
        }
        let cli = Cli::try_parse_from(["llamactl", "--socket=", "model", "list", "-q"]).unwrap();
        assert_eq!((cli.global.reach().unwrap().socket, cli.global.format().quiet), (None, true));
    }

    #[test]
    fn help_of_every_command() {
        let command = laid_out(Cli::command(), true, COLUMNS);
        let mut found = vec![("llamactl".to_owned(), command.clone())];
        nodes(&command, "", &mut found);
        let at = |command: &clap::Command, columns| {
            command.clone().term_width(columns).render_help().to_string()
        };
        for (name, command) in &found {
            assert_text(&format!("help-{}", name.replace(' ', "-")), &at(command, COLUMNS));
            for columns in [60, COLUMNS, 120, 200] {
                for line in at(command, columns).lines() {
                    // A usage is a command, and on one line.
                    let is_free = line.starts_with("Usage: ") || !line.trim().contains(' ');
                    let fits = width(line) <= columns || is_free;
                    assert!(fits || name == "llamactl", "{name}: wider than {columns}: {line}");
                }
            }
        }
        let short = laid_out(Cli::command(), false, COLUMNS);
        let short = short.find_subcommand("start").unwrap();
        assert_text("short-help-start", &at(short, COLUMNS));
        // A command that is gone leaves no snapshot behind.
        let kept = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots")).unwrap();
        let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(kept.filter(|name| name.starts_with("help-")).count(), found.len());
    }

    /// Every command below this one, those that only group others too.
    fn nodes(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands() {
            let name = format!("{name} {}", sub.get_name());
            found.push((name.trim().to_owned(), sub.clone()));
            nodes(sub, &name, found);
        }
    }

    #[test]
    fn the_list_of_commands() {
        assert_screen("help", |output| {
            for topic in ["", "options", "exit-codes", "settings memory", "settings ctx-size port"]
            {
                let words: Vec<String> = topic.split_whitespace().map(str::to_owned).collect();
                help::print(output, &words)?;
            }
            Ok(())
        });
    }
}
