--- The completion code for each shell. It calls `dbrun completion words` for the candidates, so that scripts of the
--- project complete too.
local M = {}

M.bash = [==[
# Completion of dbrun for bash; made by `dbrun completion bash`.
_dbrun() {
    local -a words=()
    local word last= line value i
    for ((i = 1; i <= COMP_CWORD; i++)); do # bash has cut words at = and :
        word=${COMP_WORDS[i]}
        if ((${#words[@]})) && [[ $word == [=:] || $last == [=:] ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        last=$word
    done
    local typed=${words[${#words[@]} - 1]} before=
    [[ $typed == *[=:]* && $COMP_WORDBREAKS == *=* ]] && before=${typed%"${typed##*[=:]}"}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files | :folders)
                compopt -o filenames
                [[ $line == :files ]] && i=-f || i=-d
                mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen $i -- "${typed#"$before"}") ;;
            *) value=${line%%$'\t'*}; COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <("${1/#\~/$HOME}" completion words -- "${words[@]}" 2>/dev/null)
}
complete -F _dbrun dbrun
]==]

M.zsh = [==[
#compdef dbrun
# Completion of dbrun for zsh; made by `dbrun completion zsh`.
_dbrun() {
    local -a found
    local line value about program=${~words[1]}
    while IFS= read -r line; do
        case $line in
            :files) _files ;;
            :folders) _files -/ ;;
            *) value=${line%%$'\t'*} about=
               [[ $line == *$'\t'* ]] && about=${line#*$'\t'}
               found+=("${value//:/\\:}${about:+:$about}") ;;
        esac
    done < <($program completion words -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    ((${#found})) && _describe dbrun found
    return 0
}
if [[ ${funcstack[1]} == _dbrun ]]; then _dbrun "$@"; else compdef _dbrun dbrun; fi
]==]

M.fish = [==[
# Completion of dbrun for fish; made by `dbrun completion fish`.
function __dbrun_words
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    for line in ($words[1] completion words -- $words[2..-1] "$typed" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$typed"
            case ':folders'
                __fish_complete_directories "$typed"
            case '*'
                echo -- $line
        end
    end
end
complete -c dbrun -f -a '(__dbrun_words)'
]==]

return M
