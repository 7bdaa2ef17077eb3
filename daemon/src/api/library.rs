//! `scan.*`, `library.*`, `model.verify`

use super::registration::{Caller, Emission, Source};
use crate::api::app::App;
use crate::library::places::tidy;
use crate::library::{Request, Scan};
use crate::models;
use llamactl_protocol::library::{
    Forgotten, LibraryCache, LibraryDirectory, LibraryForget, LibraryList, LibraryPlaces,
    ModelVerify, Progress, ScanFollow, ScanItem, Verified,
};
use llamactl_protocol::model::SettingsChange;
use llamactl_protocol::options::Settings;
use llamactl_protocol::{Failure, Hint, Kind, WirePath};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

pub(super) async fn scan(app: &App, caller: Caller, scan: ScanFollow) -> Result<Scanning, Failure> {
    let change = SettingsChange { set: scan.settings, ..SettingsChange::default() };
    let checked = app.models.validate(&change, &Settings::new()).await?;
    if checked.path.is_some() {
        return Err(Failure::new(Kind::InvalidValue, "what is found has files of its own"));
    }
    let by = caller.actor;
    let directories = directories(scan.directories.0).await?;
    if scan.remember {
        let remembered = directories.iter().cloned().map(WirePath).collect();
        app.registry.remember_dirs(remembered, by.clone()).await?;
    }
    let request = Request {
        directories,
        remembered: scan.remembered,
        caches: scan.caches,
        variables: scan.variables,
        add: scan.add,
        follow: scan.add,
        settings: checked.set,
    };
    Ok(Scanning { begun: false, scan: app.model_files.scan(request, by) })
}

/// The directories that were named, if they can be looked through.
async fn directories(paths: Vec<WirePath>) -> Result<Vec<PathBuf>, Failure> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| tidy(path.as_path())).collect();
    let look = move || {
        paths.iter().try_for_each(|path| check(path))?;
        Ok(paths)
    };
    spawn_blocking(look)
        .await
        .map_err(|_| Failure::new(Kind::Internal, "looking at the directories failed"))?
}

fn check(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(Failure::new(Kind::InvalidValue, format!("the path {shown} is not absolute")));
    }
    let Err(error) = fs::read_dir(path) else { return Ok(()) };
    Err(match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Kind::FileNotFound, format!("there is no directory {shown}"))
                .hint("check the path")
        }
        io::ErrorKind::NotADirectory => {
            Failure::new(Kind::InvalidValue, format!("{shown} is not a directory")).hint(Hint::run(
                "register a single file",
                ["llamactl", "model", "add", &path.to_string_lossy()],
            ))
        }
        io::ErrorKind::PermissionDenied => models::unreadable(path),
        _ => Failure::new(Kind::IoFailed, format!("{shown} cannot be read: {error}")),
    })
}

/// A scan, as a stream: it begins where nothing has been looked at.
pub(super) struct Scanning {
    begun: bool,
    scan: Scan,
}

impl Source for Scanning {
    type Item = ScanItem;

    async fn next(&mut self) -> Emission<ScanItem> {
        if !self.begun {
            self.begun = true;
            let data = ScanItem::Progress(Progress { directory: None, files_seen: 0 });
            return Emission::Snapshot { cursor: None, data };
        }
        match self.scan.next().await {
            Ok(Some(data)) => Emission::Change { cursor: None, data },
            Ok(None) => Emission::done(None),
            Err(failure) => Emission::failed(None, failure),
        }
    }
}

pub(super) async fn list(
    app: &App,
    _: Caller,
    list: LibraryList,
) -> Result<LibraryPlaces, Failure> {
    let directories = app.registry.remembered_dirs().await?;
    let caches: Vec<_> = app.model_files.caches(&list.variables);
    let there = spawn_blocking(move || {
        caches.into_iter().filter(|cache| cache.path.is_dir()).collect::<Vec<_>>()
    });
    let there = there.await.unwrap_or_default();
    Ok(LibraryPlaces {
        directories: directories
            .into_iter()
            .map(|(path, added_at_ms)| LibraryDirectory { path, added_at_ms })
            .collect(),
        caches: there
            .into_iter()
            .map(|cache| LibraryCache { path: WirePath(cache.path), source: cache.source })
            .collect(),
    })
}

pub(super) async fn forget(
    app: &App,
    caller: Caller,
    forget: LibraryForget,
) -> Result<Forgotten, Failure> {
    let path = WirePath(tidy(forget.path.as_path()));
    if app.registry.forget_dir(path.clone(), caller.actor).await? {
        return Ok(Forgotten { path });
    }
    Err(Failure::new(Kind::FileNotFound, format!("{path} is not among the remembered directories"))
        .hint(Hint::run("see which there are", ["llamactl", "model", "scan", "--list-dirs"])))
}

pub(super) async fn verify(
    app: &App,
    caller: Caller,
    verify: ModelVerify,
) -> Result<Verified, Failure> {
    let model = app.registry.model(&verify.model).await?;
    app.model_files.verify(&model, caller.actor).await
}
