_llamactl() {
    local line=${COMP_LINE:0:COMP_POINT} words before
    # Bash splits words at = and :, which stand inside settings and model names. llamactl gets
    # words whole and bash gets back the part behind its own split.
    read -a words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    words[-1]=${words[-1]#[\"\']}
    before=${words[-1]%"$2"}
    local IFS=$'\n'
    COMPREPLY=($(LLAMACTL_COMPLETE=bash llamactl -- "${words[@]}" 2>/dev/null))
    # A word and what it is; without a word: files, which bash finds by itself.
    case ${COMPREPLY[0]} in
    $'\tfiles'*)
        COMPREPLY=() && compopt -o default
        # An @ is a part of the word to it, before which it would look for hosts.
        [[ $2 == @* ]] && compopt -o filenames && COMPREPLY=($(compgen -P @ -f -- "${2#@}"))
        ;;
    $'\tdirectories'*) COMPREPLY=() && compopt -o dirnames -o filenames ;;
    esac
    COMPREPLY=("${COMPREPLY[@]%%$'\t'*}")
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=.] ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -o nosort -F _llamactl llamactl
