//! What llama-server offers over HTTP.

use super::{Setting, integer, integer_or, list, refused, setting};
use crate::options::{Group, Item, Told, Values};

/// Where a router's options lead: llamactl is the router.
const ONE_EACH: &str =
    "llamactl runs one llama-server for each model: llamactl model add FILE adds one";

const fn server(
    key: &'static str,
    values: Values<'static>,
    help: &'static str,
) -> Setting<'static> {
    setting(Group::Server, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    server("api-key", Values::Secret, "The key clients must give; api-key=generate makes one")
        .variable("LLAMA_API_KEY")
        .told(Told::Environment("LLAMA_API_KEY"))
        .default("none"),
    server(
        "api-key-file",
        Values::File,
        "A file with keys, one on a line, any of which clients may give",
    )
    .variable("LLAMA_ARG_API_KEY_FILE")
    .default("none")
    .example("/etc/llamactl/keys"),
    server(
        "timeout",
        integer(1, 31_536_000),
        "How long a connection may stand still before it is closed",
    )
    .short(&["to"])
    .variable("LLAMA_ARG_TIMEOUT")
    .unit("s")
    .default("3600")
    .example("600"),
    server(
        "threads-http",
        integer_or(1, 1024, &["-1"]),
        "Threads that answer HTTP requests; -1 lets llama-server choose",
    )
    .variable("LLAMA_ARG_THREADS_HTTP")
    .unit("threads")
    .default("-1")
    .example("2"),
    server(
        "sse-ping-interval",
        integer_or(1, 86_400, &["-1"]),
        "Time between the pings that keep a silent stream open; -1 sends none",
    )
    .variable("LLAMA_ARG_SSE_PING_INTERVAL")
    .unit("s")
    .default("30")
    .example("5"),
    server(
        "sleep-idle-seconds",
        integer_or(1, 31_536_000, &["-1"]),
        "Idle time after which the model is unloaded until the next request; -1 keeps it \
         loaded",
    )
    .unit("s")
    .default("-1")
    .example("3600"),
    server(
        "cors-origins",
        list(Item::Text),
        "The web origins whose pages may use the server; localhost allows those of this \
         machine, * all",
    )
    .variable("LLAMA_ARG_CORS_ORIGINS")
    .default("*")
    .example("localhost"),
    server("cors-methods", list(Item::Text), "The HTTP methods web pages may use")
        .variable("LLAMA_ARG_CORS_METHODS")
        .default("GET, POST, DELETE, OPTIONS")
        .example("GET,POST"),
    server("cors-headers", list(Item::Text), "The HTTP headers web pages may send; * allows all")
        .variable("LLAMA_ARG_CORS_HEADERS")
        .default("*")
        .example("authorization,content-type"),
    server("cors-credentials", Values::Switch, "Let web pages send credentials")
        .off(&["--no-cors-credentials"])
        .variable("LLAMA_ARG_CORS_CREDENTIALS")
        .default("on")
        .example("true"),
    server("props", Values::Switch, "Let clients change properties through POST /props")
        .variable("LLAMA_ARG_ENDPOINT_PROPS")
        .old(&["props_enabled"])
        .default("off")
        .example("false"),
    server("slots", Values::Switch, "Serve /slots, where llamactl sees what the slots are doing")
        .off(&["--no-slots"])
        .variable("LLAMA_ARG_ENDPOINT_SLOTS")
        .old(&["slots_enabled"])
        .default("on")
        .example("true"),
    server(
        "slot-save-path",
        Values::Directory,
        "The directory where clients may save and restore the state of slots; it must be \
         there",
    )
    .default("disabled")
    .example("/tmp"),
    server("ui", Values::Switch, "Serve llama-server's own web page")
        .long(&["webui"])
        .off(&["--no-ui", "--no-webui"])
        .variable("LLAMA_ARG_UI")
        .default("on")
        .example("true"),
    server("ui-config", Values::Json { object: true }, "Settings the web page starts with")
        .long(&["webui-config"])
        .variable("LLAMA_ARG_UI_CONFIG")
        .example("{\"theme\":\"dark\"}"),
    server("ui-config-file", Values::File, "A file with settings the web page starts with")
        .long(&["webui-config-file"])
        .variable("LLAMA_ARG_UI_CONFIG_FILE")
        .example("/etc/llamactl/ui.json"),
    server(
        "static-path",
        Values::Directory,
        "A directory whose files are served instead of the web page",
    )
    .long(&["path"])
    .variable("LLAMA_ARG_STATIC_PATH")
    .example("/tmp"),
    server(
        "tools",
        list(Item::Text),
        "Tools the web page's agent may use on this machine, all for every one (experimental)",
    )
    .variable("LLAMA_ARG_TOOLS")
    .default("no tools")
    .example("get_datetime"),
    server(
        "tools-runtime",
        Values::Text,
        "Where the tools run, such as docker:IMAGE or ssh:HOST; none is this machine itself \
         (experimental)",
    )
    .variable("LLAMA_ARG_TOOLS_RUNTIME")
    .default("none")
    .example("none"),
    server("agent", Values::Switch, "Switch on all the tools and the MCP proxy (experimental)")
        .short(&["ag"])
        .off(&["--no-agent", "-no-ag"])
        .variable("LLAMA_ARG_AGENT")
        .default("off")
        .example("false"),
    server(
        "ui-mcp-proxy",
        Values::Switch,
        "Let the web page reach MCP servers through this one (experimental)",
    )
    .long(&["webui-mcp-proxy"])
    .off(&["--no-ui-mcp-proxy", "--no-webui-mcp-proxy"])
    .variable("LLAMA_ARG_UI_MCP_PROXY")
    .default("off")
    .example("false"),
    server("mcp-servers-config", Values::File, "A JSON file that names MCP servers (experimental)")
        .variable("LLAMA_ARG_MCP_SERVERS_CONFIG")
        .default("none")
        .example("/etc/llamactl/mcp.json"),
    server(
        "mcp-servers-json",
        Values::Json { object: true },
        "MCP servers, named in JSON (experimental)",
    )
    .variable("LLAMA_ARG_MCP_SERVERS_JSON")
    .default("none")
    .example("{\"mcpServers\":{}}"),
    refused(Group::Server, "metrics", "llamactl always switches it on: it reads its figures there")
        .values(Values::Switch)
        .variable("LLAMA_ARG_ENDPOINT_METRICS")
        .old(&["metrics_enabled"]),
    refused(
        Group::Server,
        "api-prefix",
        "llamactl asks at the usual paths; a proxy in front of llama-server can add a prefix",
    )
    .variable("LLAMA_ARG_API_PREFIX"),
    refused(
        Group::Server,
        "reuse-port",
        "two servers would share a port and clients would meet either; give each model a port \
         of its own",
    )
    .values(Values::Switch)
    .variable("LLAMA_ARG_REUSE_PORT"),
    refused(
        Group::Server,
        "ssl-key-file",
        "llamactl speaks plain HTTP to its servers; put a proxy that speaks TLS in front",
    )
    .values(Values::File)
    .variable("LLAMA_ARG_SSL_KEY_FILE"),
    refused(
        Group::Server,
        "ssl-cert-file",
        "llamactl speaks plain HTTP to its servers; put a proxy that speaks TLS in front",
    )
    .values(Values::File)
    .variable("LLAMA_ARG_SSL_CERT_FILE"),
    refused(Group::Server, "models-dir", ONE_EACH)
        .values(Values::Directory)
        .variable("LLAMA_ARG_MODELS_DIR"),
    refused(Group::Server, "models-preset", ONE_EACH)
        .values(Values::File)
        .variable("LLAMA_ARG_MODELS_PRESET"),
    refused(Group::Server, "models-max", ONE_EACH)
        .values(integer(0, 1 << 20))
        .variable("LLAMA_ARG_MODELS_MAX"),
    refused(Group::Server, "models-autoload", ONE_EACH)
        .values(Values::Switch)
        .off(&["--no-models-autoload"])
        .variable("LLAMA_ARG_MODELS_AUTOLOAD"),
];
