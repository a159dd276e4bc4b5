#include "tools/check/check.h"
#include <stdlib.h>

/* Verdicts for people and for programs. */

static const char *outcome_text(const struct history_op *op)
{
    return history_type_text(op->outcome);
}

static void print_op(const struct history *h, const struct history_op *op, const char *path, FILE *out)
{
    char *value = json_dumps(op->value, JSON_ENCODE_ANY | JSON_COMPACT);
    fprintf(out, "  %s:%u", path, op->call_line);
    if (op->ret_line != 0) fprintf(out, "-%u", op->ret_line);
    fprintf(out, "  process %lld  %s %s %s%s%s", (long long)op->process, outcome_text(op), history_f_text(op->f),
            h->keys[op->key], h->keys[op->key][0] != '\0' ? " " : "", value == NULL ? "?" : value);
    if (op->call_ns != 0 || op->ret_ns != 0)
        fprintf(out, "  %.6f..%.6f s", (double)op->call_ns / 1e9, (double)op->ret_ns / 1e9);
    fputc('\n', out);
    free(value);
}

void check_print(const struct history *h, const struct check_result *r, const char *path, FILE *out)
{
    switch (r->verdict) {
    case CHECK_VALID:
        fprintf(out, "valid: %u operations on %u keys, %llu states searched\n", h->op_count, r->keys,
                (unsigned long long)r->states);
        break;
    case CHECK_UNSUPPORTED: fprintf(out, "%s:%u: unsupported: %s\n", path, r->line, r->why); break;
    case CHECK_MALFORMED: fprintf(out, "%s:%u: %s\n", path, r->line, r->why); break;
    case CHECK_UNDECIDED: fprintf(out, "undecided: %s\n", r->why); break;
    case CHECK_VIOLATION:
        fprintf(out, "violation: %s %s: %s\n", check_model_text(r->model), h->keys[r->key], r->why);
        for (uint32_t i = 0; i < r->op_count; i++) print_op(h, &h->ops[r->ops[i]], path, out);
        break;
    }
}

static void print_json(const json_t *value, FILE *out)
{
    if (json_dumpf(value, out, JSON_ENCODE_ANY | JSON_COMPACT) != 0) fputs("null", out);
}

static void print_text(const char *text, FILE *out)
{
    json_t *string = json_string(text);
    print_json(string, out);
    json_decref(string);
}

void check_print_json(const struct history *h, const struct check_result *r, FILE *out)
{
    fprintf(out, "{\"verdict\":\"%s\",\"operations\":%u,\"keys\":%u,\"states\":%llu", check_verdict_text(r->verdict),
            h->op_count, r->keys, (unsigned long long)r->states);
    if (r->verdict != CHECK_VALID) {
        fprintf(out, ",\"model\":\"%s\",\"key\":", check_model_text(r->model));
        print_text(h->keys[r->key], out);
        fputs(",\"why\":", out);
        print_text(r->why, out);
    }
    if (r->line != 0) fprintf(out, ",\"line\":%u", r->line);
    if (r->verdict == CHECK_VIOLATION) fputs(",\"failing\":[", out);
    for (uint32_t i = 0; i < r->op_count; i++) {
        const struct history_op *op = &h->ops[r->ops[i]];
        fprintf(out, "%s{\"process\":%lld,\"type\":\"%s\",\"f\":\"%s\",\"value\":", i > 0 ? "," : "",
                (long long)op->process, outcome_text(op), history_f_text(op->f));
        print_json(op->value, out);
        fprintf(out, ",\"invoke_line\":%u,\"completion_line\":", op->call_line);
        if (op->ret_line != 0) fprintf(out, "%u}", op->ret_line);
        else fputs("null}", out);
    }
    fputs(r->verdict == CHECK_VIOLATION ? "]}\n" : "}\n", out);
}
