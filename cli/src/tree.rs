//! The tree of commands, or as much of it as one command line needs.
//!
//! ```text
//!   table ─▶ enum ─▶ the whole tree: help, completion, manual pages, every mistake
//!     ╰────▶ one ──▶ the tree of the command that is asked, which is read in a fraction of the time
//! ```
//!
//! `commands!` makes both of one table, so they are the same commands. Both read a line alike wherever
//! the tree of one reads it at all: it knows fewer names, so what it takes for a command stands where
//! one must stand.

use crate::exit::Outcome;
use clap::Command;
use futures_util::future::LocalBoxFuture;
use std::ffi::OsStr;

/// A command that is being carried out.
pub(crate) type Begun<'a> = LocalBoxFuture<'a, Outcome>;

/// The words of a command line.
pub(crate) type Words<'w> = dyn Iterator<Item = &'w OsStr> + 'w;

/// What can be read without the rest of the tree.
pub(crate) trait One {
    /// `command` with what this takes, and of the commands below it the one that the words name.
    fn one(command: Command, words: &mut Words<'_>) -> Option<Command>;
}

impl<A: clap::Args> One for A {
    // Apart from where the command is chosen, so that the stack has no room there for the arguments of all.
    #[inline(never)]
    fn one(command: Command, _: &mut Words<'_>) -> Option<Command> {
        Some(A::augment_args(command))
    }
}

/// What a command does, begun. Apart from where the command is chosen, so that there the stack has no room
/// for what all commands are.
#[inline(never)]
pub(crate) fn begun<'a, F>(command: impl FnOnce() -> F) -> Begun<'a>
where
    F: Future<Output = Outcome> + 'a,
{
    Box::pin(command())
}

/// Makes of a table of commands (`"name" | "other name" Variant(module::Arguments) => side`, the name of
/// the module's `run` being `run`) an enum that clap can read, the tree of one of them, and what
/// carries it out: here, there or not at all where another machine is named, as its side says.
macro_rules! commands {
    ($(#[$about:meta])* $all:ident: $(
        $(#[$meta:meta])* $name:literal $(| $alias:literal)? $variant:ident($module:ident::$args:ident)
            => $side:expr,
    )*) => {
        // What a command takes is built only when it is the one.
        $(#[$about])*
        #[derive(clap::Subcommand, Debug)]
        #[command(defer = true)]
        pub(crate) enum $all {
            $($(#[$meta])* #[command(name = $name $(, visible_alias = $alias)?)] $variant($module::$args),)*
        }

        impl $crate::tree::One for $all {
            fn one(
                command: clap::Command,
                words: &mut $crate::tree::Words<'_>,
            ) -> Option<clap::Command> {
                let below = loop {
                    break match words.next()?.to_str() {
                        $(Some($name $(| $alias)?) => {
                            let below = clap::Command::new($name)$(.alias($alias))?;
                            <$module::$args as $crate::tree::One>::one(below, words)?
                        })*
                        _ => continue,
                    };
                };
                let command = command.subcommand_required(true).disable_help_subcommand(true);
                Some(command.subcommand(below))
            }
        }

        /// On which machine the commands are carried out and have their files, by their names.
        pub(crate) const SIDES: &[(&str, $crate::remote::Side)] = &[$(($name, $side),)*];

        /// Carries out a command.
        pub(crate) fn run<'a>(
            output: &'a mut $crate::output::Output,
            reach: &'a $crate::connection::Reach,
            command: $all,
        ) -> $crate::tree::Begun<'a> {
            match command {
                $($all::$variant(args) => $crate::tree::begun(move || async move {
                    match $side.elsewhere(reach).await {
                        Some(done) => done,
                        None => $module::run(output, reach, args).await,
                    }
                }),)*
            }
        }
    };
}
pub(crate) use commands;
