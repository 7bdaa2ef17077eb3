//! What is loaded, and how prompts are made of messages.

use super::{MAX_TOKENS, ON_OFF_AUTO, Setting, choice, integer, list, refused, setting};
use crate::options::{Group, Item, Told, Values};

/// Where options that fetch a model lead.
const DOWNLOADS: &str = "llamactl downloads nothing: fetch the file, then llamactl model add FILE";

const fn model(key: &'static str, values: Values<'static>, help: &'static str) -> Setting<'static> {
    setting(Group::Model, key, values, help)
}

pub(super) const SETTINGS: &[Setting<'static>] = &[
    model(
        "escape",
        Values::Switch,
        "Read \\n, \\t and the like in texts given to llama-server as the characters they \
         stand for",
    )
    .short(&["e"])
    .off(&["--no-escape"])
    .default("on")
    .example("true"),
    model(
        "check-tensors",
        Values::Switch,
        "Look for invalid numbers in the model's weights while loading, which takes longer",
    )
    .default("off")
    .example("true"),
    model(
        "override-kv",
        list(Item::Metadata),
        "Replace metadata of the model's file for this server",
    )
    .example("tokenizer.ggml.add_bos_token=bool:true"),
    model(
        "hf-token",
        Values::Secret,
        "The token llama-server shows Hugging Face when it fetches something itself",
    )
    .short(&["hft"])
    .variable("HF_TOKEN")
    .told(Told::Environment("HF_TOKEN")),
    model("offline", Values::Switch, "Forbid llama-server to fetch anything over the network")
        .variable("LLAMA_ARG_OFFLINE")
        .default("off")
        .example("true"),
    model("special", Values::Switch, "Let the model's special tokens appear in answers")
        .short(&["sp"])
        .default("off")
        .example("true"),
    model(
        "spm-infill",
        Values::Switch,
        "Put the suffix before the prefix in fill-in-the-middle prompts, as some models want \
         it",
    )
    .default("off")
    .example("true"),
    model(
        "tags",
        list(Item::Text),
        "Words shown with the model in /v1/models; they change nothing else",
    )
    .variable("LLAMA_ARG_TAGS")
    .example("chat,small"),
    model(
        "chat-template-kwargs",
        Values::Json { object: true },
        "Further values for the chat template",
    )
    .variable("LLAMA_ARG_CHAT_TEMPLATE_KWARGS")
    .example("{\"language\":\"English\"}"),
    model(
        "jinja",
        Values::Switch,
        "Make prompts with the Jinja template engine, which tool calls need",
    )
    .off(&["--no-jinja"])
    .variable("LLAMA_ARG_JINJA")
    .default("on")
    .example("true"),
    model(
        "reasoning-format",
        choice(&["auto", "none", "deepseek", "deepseek-legacy"]),
        "Where a model's thoughts go: left in content (none), to reasoning_content (deepseek), \
         or to both (deepseek-legacy)",
    )
    .variable("LLAMA_ARG_THINK")
    .default("auto")
    .example("auto"),
    model(
        "reasoning",
        choice(&["on", "off", "auto"]),
        "Whether the model thinks before it answers; auto asks the chat template",
    )
    .spelled(ON_OFF_AUTO)
    .short(&["rea"])
    .variable("LLAMA_ARG_REASONING")
    .default("auto")
    .example("auto"),
    model(
        "reasoning-effort",
        Values::Text,
        "How hard the model thinks, for templates that know it: default, or a level such as \
         low or high",
    )
    .variable("LLAMA_ARG_REASONING_EFFORT")
    .default("default")
    .example("default"),
    model(
        "reasoning-budget",
        integer(-1, MAX_TOKENS),
        "The most tokens of thinking; 0 ends it at once, -1 sets no limit",
    )
    .variable("LLAMA_ARG_THINK_BUDGET")
    .unit("tokens")
    .default("-1")
    .example("-1"),
    model(
        "reasoning-budget-message",
        Values::Text,
        "What is put into the thoughts when their budget is spent, before they end",
    )
    .variable("LLAMA_ARG_THINK_BUDGET_MESSAGE")
    .default("none")
    .example("That is enough thinking."),
    model(
        "reasoning-preserve",
        Values::Switch,
        "Keep the thoughts of all earlier answers in the prompt, where the template can",
    )
    .off(&["--no-reasoning-preserve"])
    .variable("LLAMA_ARG_REASONING_PRESERVE")
    .default("template default")
    .example("false"),
    model(
        "chat-template",
        Values::Text,
        "The chat template: the name of a built-in one, or its text",
    )
    .variable("LLAMA_ARG_CHAT_TEMPLATE")
    .default("template taken from model's metadata")
    .example("chatml"),
    model("chat-template-file", Values::File, "A file with the chat template")
        .variable("LLAMA_ARG_CHAT_TEMPLATE_FILE")
        .default("template taken from model's metadata")
        .example("/models/chat.jinja"),
    model(
        "skip-chat-parsing",
        Values::Switch,
        "Put all the model says into content, thoughts and tool calls as well",
    )
    .off(&["--no-skip-chat-parsing"])
    .variable("LLAMA_ARG_SKIP_CHAT_PARSING")
    .default("off")
    .example("false"),
    model(
        "prefill-assistant",
        Values::Switch,
        "Continue the last message where it is the assistant's; off takes it as complete",
    )
    .off(&["--no-prefill-assistant"])
    .variable("LLAMA_ARG_PREFILL_ASSISTANT")
    .default("on")
    .example("true"),
    refused(Group::Model, "model", "use the setting path")
        .values(Values::File)
        .short(&["m"])
        .variable("LLAMA_ARG_MODEL"),
    refused(
        Group::Model,
        "alias",
        "the model's name and aliases are what clients ask for: llamactl model rename, \
         llamactl model alias",
    )
    .values(list(Item::Text))
    .short(&["a"])
    .variable("LLAMA_ARG_ALIAS"),
    refused(Group::Model, "model-url", DOWNLOADS).short(&["mu"]).variable("LLAMA_ARG_MODEL_URL"),
    refused(Group::Model, "docker-repo", DOWNLOADS)
        .short(&["dr"])
        .variable("LLAMA_ARG_DOCKER_REPO"),
    refused(Group::Model, "hf-repo", DOWNLOADS).short(&["hf", "hfr"]).variable("LLAMA_ARG_HF_REPO"),
    refused(Group::Model, "hf-file", DOWNLOADS).short(&["hff"]).variable("LLAMA_ARG_HF_FILE"),
    refused(Group::Model, "embd-gemma-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "fim-qwen-1.5b-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "fim-qwen-3b-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "fim-qwen-7b-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "fim-qwen-7b-spec", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "fim-qwen-14b-spec", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "fim-qwen-30b-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "gpt-oss-20b-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "gpt-oss-120b-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "vision-gemma-4b-default", DOWNLOADS).values(Values::Switch),
    refused(Group::Model, "vision-gemma-12b-default", DOWNLOADS).values(Values::Switch),
    refused(
        Group::Model,
        "cache-list",
        "it prints llama-server's own downloads and exits; llamactl model list shows the \
         models there are",
    )
    .values(Values::Switch)
    .short(&["cl"]),
];
