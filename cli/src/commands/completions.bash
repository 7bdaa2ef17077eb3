_llamactl() {
    local line=${COMP_LINE:0:COMP_POINT} words before
    # Bash splits words at = and :, which stand inside settings and model names. llamactl gets
    # words whole and bash gets back the part behind its own split.
    read -a words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    before=${words[-1]%"$2"}
    local IFS=$'\n'
    COMPREPLY=($(
        LLAMACTL_COMPLETE=bash _CLAP_IFS=$IFS _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
            llamactl -- "${words[@]}" 2>/dev/null
    ))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -o nosort -F _llamactl llamactl
