#include <string.h>

#include "tools/kvctl/kvctl.h"

static void options_print(const char *names)
{
    for (size_t size; *names != 0; names += size, names += *names == ' ') {
        size = strcspn(names, " ");
        printf("--%.*s ", (int)size, names);
    }
}

/* A bash completion script, printed from the tables of commands and options. */
int completion_run(struct kvctl *k, const struct args *a, const char *const *words, uint32_t count)
{
    (void)a;
    (void)count;
    if (strcmp(words[0], "bash") != 0) return kvctl_usage(k, "knows bash only, not %s", words[0]);
    printf("_kvctl()\n{\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} word options\n"
           "    case \"$prev\" in\n"
           "    -o|--output) COMPREPLY=($(compgen -W 'table json raw' -- \"$cur\")); return ;;\n"
           "    --level) COMPREPLY=($(compgen -W 'linearizable lease any bounded:' -- \"$cur\")); return ;;\n"
           "    --format) COMPREPLY=($(compgen -W 'tsv jsonl' -- \"$cur\")); return ;;\n"
           "    node) COMPREPLY=($(compgen -W 'list show token cordon uncordon drain remove replace' -- \"$cur\")); return ;;\n"
           "    keyspace) COMPREPLY=($(compgen -W 'create list show alter drop split merge' -- \"$cur\")); return ;;\n"
           "    job) COMPREPLY=($(compgen -W 'list show wait pause resume cancel' -- \"$cur\")); return ;;\n"
           "    partition) COMPREPLY=($(compgen -W 'move lead' -- \"$cur\")); return ;;\n"
           "    --partition) COMPREPLY=($(compgen -W 'hash range list:' -- \"$cur\")); return ;;\n"
           "    history) COMPREPLY=($(compgen -W 'check' -- \"$cur\")); return ;;\n"
           "    --model) COMPREPLY=($(compgen -W 'register counter set list' -- \"$cur\")); return ;;\n"
           "    log) COMPREPLY=($(compgen -W 'level' -- \"$cur\")); return ;;\n"
           "    completion) COMPREPLY=($(compgen -W 'bash' -- \"$cur\")); return ;;\n"
           "    import|export|check|--cluster|--key)\n"
           "        local IFS=$'\\n'\n"
           "        compopt -o filenames 2>/dev/null\n"
           "        COMPREPLY=($(compgen -f -- \"$cur\"))\n"
           "        return ;;\n"
           "    esac\n"
           "    case \"$cur\" in\n    -*)\n"
           "        for word in \"${COMP_WORDS[@]:1}\"; do\n            case \"$word\" in\n");
    for (const struct command *c = commands; c->name != NULL; c++) {
        const char *blank = strrchr(c->name, ' ');
        if (c->options[0] == 0) continue;
        printf("            %s) options='", blank == NULL ? c->name : blank + 1);
        options_print(c->options);
        printf("'; break ;;\n");
    }
    printf("            esac\n        done\n        COMPREPLY=($(compgen -W \"$options ");
    options_print(GLOBAL_OPTIONS);
    printf("\" -- \"$cur\")); return ;;\n    esac\n"
           "    [ \"$COMP_CWORD\" -eq 1 ] && COMPREPLY=($(compgen -W 'help ");
    const char *last = "";
    for (const struct command *c = commands; c->name != NULL; c++) {
        size_t size = strcspn(c->name, " ");
        if (strncmp(last, c->name, size) != 0 || last[size] != ' ') printf("%.*s ", (int)size, c->name);
        last = c->name;
    }
    printf("' -- \"$cur\"))\n}\ncomplete -F _kvctl kvctl\n");
    return EXIT_OK;
}
