//! Generated documents are what the code says. `UPDATE_DOCS=1` writes them anew.

use llamactl_protocol::configuration;
use llamactl_protocol::doctor;
use llamactl_protocol::options::document;
use llamactl_protocol::series;
use llamactl_tests::specification::{self, MEASURED};
use llamactl_tests::{Home, artifacts};
use llamactld::transfer::dashboard::page;
use serde_json::json;
use std::{env, fs};

#[test]
fn the_openrpc_document_is_what_the_daemon_answers() {
    let home = Home::new();
    let _daemon = home.daemon();
    let answer = home.call("rpc.discover", json!({}));
    let text = format!("{}\n", serde_json::to_string_pretty(&answer).unwrap());
    check("openrpc.json", &text);
}

#[test]
fn the_page_of_settings_is_what_the_catalogue_says() {
    check("options.md", &document::markdown());
}

#[test]
fn the_page_of_series_is_what_the_catalogue_says() {
    check("series.md", &series::markdown());
}

#[test]
fn the_page_of_findings_is_what_the_catalogue_says() {
    check("doctor.md", &doctor::markdown());
}

#[test]
fn the_page_of_the_configuration_is_what_its_type_says() {
    check("configuration.md", &configuration::markdown());
}

#[test]
fn the_page_of_the_old_dashboard_is_what_its_table_says() {
    check("old-dashboard.md", &page::markdown());
}

#[test]
fn the_schema_of_settings_is_what_the_catalogue_says() {
    let text = format!("{}\n", serde_json::to_string_pretty(&document::schema()).unwrap());
    check("options.schema.json", &text);
}

/// What a machine measured stands below and is not compared.
#[test]
fn the_specification_is_what_its_table_says() {
    let path = artifacts::checkout().join("SPECIFICATION.md");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let (page, measured) = kept.split_at(kept.find(MEASURED).unwrap_or(kept.len()));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, specification::page() + measured).unwrap();
    } else {
        assert!(
            page == specification::page(),
            "SPECIFICATION.md is not what its table says; write it anew with UPDATE_DOCS=1 tests/run docs"
        );
    }
}

/// Compares a document with its file below `docs/`.
fn check(name: &str, text: &str) {
    let path = artifacts::checkout().join("docs").join(name);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/{name} is not what the code says; write it anew with UPDATE_DOCS=1 tests/run docs"
    );
}
