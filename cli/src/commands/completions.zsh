#compdef llamactl
_llamactl() {
    local line value help
    local -a answer whole open files
    # The line up to the cursor, without the quotes that were typed.
    answer=("${(@f)$(LLAMACTL_COMPLETE=zsh llamactl -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in $answer; do
        value=${line%%$'\t'*} help=${line#*$'\t'}
        case $value in
        '') files=(${(ps:\t:)help}) ;;
        # What is not whole is gone on with: no blank behind it.
        *[=.]) open+=("${value//:/\\:}:$help") ;;
        *) whole+=("${value//:/\\:}${help:+:$help}") ;;
        esac
    done
    (( $#whole )) && _describe -V 'word' whole
    (( $#open )) && _describe -V 'setting' open -S ''
    if (( $#files )); then
        compset -p ${#files[2]}
        [[ $files[1] == directories ]] && _files -/ || _files
    fi
}
# Loaded from $fpath this file is the function; read by source it is to be made known.
if [[ $funcstack[1] == _llamactl ]]; then
    _llamactl "$@"
else
    compdef _llamactl llamactl
fi
