//! LM Studio's models: `PUBLISHER/REPO/file.gguf`.

use super::group::{self, Site};
use super::naming::Naming;
use super::pair;
use super::sink::{Sink, Stopped};
use super::walk;
use llamactl_protocol::library::ScanSource;
use std::path::Path;

/// Looks through its models.
pub(super) fn cache(root: &Path, sink: &mut Sink) -> Result<(), Stopped> {
    walk::walk(root, Some(root), sink, &mut |listing, sink| {
        let naming = |_: &str| naming(root, &listing.directory);
        let site =
            Site { source: ScanSource::Lmstudio, naming: &naming, pairing: pair::projector_for };
        group::report(listing, &site, sink)
    })
}

fn naming(root: &Path, directory: &Path) -> Naming {
    let inside = directory.strip_prefix(root).unwrap_or(Path::new(""));
    let mut names = inside.iter().map(|name| name.to_str());
    match (names.next().flatten(), names.next().flatten()) {
        (Some(publisher), Some(repo)) => Naming::Repo(format!("{publisher}/{repo}")),
        _ => Naming::Stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publisher_and_repository_are_the_first_two_directories() {
        let named = |directory: &str| naming(Path::new("/l"), Path::new(directory));
        assert_eq!(named("/l/acme/Tiny-GGUF"), Naming::Repo("acme/Tiny-GGUF".into()));
        assert_eq!(named("/l/acme/Tiny-GGUF/more"), Naming::Repo("acme/Tiny-GGUF".into()));
        assert_eq!(named("/l/acme"), Naming::Stem);
        assert_eq!(named("/l"), Naming::Stem);
    }
}
