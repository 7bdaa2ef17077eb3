function __llamactl_words
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l word (commandline --current-token --cut-at-cursor)
    for line in (LLAMACTL_COMPLETE=fish llamactl -- $words $word 2>/dev/null)
        # A word and what it is; without a word: files, and what stands before them.
        set -l files (string split \t -- $line)
        if test -n "$files[1]"
            echo $line
            continue
        end
        set -l path (string sub --start (math 1 + (string length -- "$files[3]")) -- $word)
        switch $files[2]
            case directories
                set path (__fish_complete_directories $path)
            case '*'
                # What is offered to a command that fish knows nothing of.
                set path (complete --do-complete "llamactl-files $path")
        end
        printf '%s\n' "$files[3]"$path
    end
end
complete --command llamactl --no-files --keep-order --arguments '(__llamactl_words)'
