#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "tools/kvbench/kvbench.h"

/* Latencies in microseconds, as text for people and as one JSON object for programs. */

static const char *const kind_names[OP_KINDS] = {"read", "write", "insert", "scan", "modify"};
static const struct {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
enum { QUANTILES = sizeof quantiles / sizeof quantiles[0] };

static double seconds(const struct bench *b)
{
    return b->ended_ns > b->measure_ns ? (double)(b->ended_ns - b->measure_ns) / 1e9 : 0;
}

static double us(uint64_t ns)
{
    return (double)ns / 1e3;
}

static double mean_us(const struct kv_hist *h)
{
    return h->count == 0 ? 0 : us(h->sum_ns) / (double)h->count;
}

static double per_second(const struct bench *b, uint64_t count)
{
    return seconds(b) > 0 ? (double)count / seconds(b) : 0;
}

static uint64_t total_ops(const struct bench *b)
{
    uint64_t total = 0;
    for (int kind = 0; kind < OP_KINDS; kind++) total += b->counters[kind].ok;
    return total;
}

static uint64_t total_in_time(const struct bench *b)
{
    uint64_t total = 0;
    for (int kind = 0; kind < OP_KINDS; kind++) total += b->counters[kind].in_time;
    return total;
}

static uint64_t total_missing(const struct bench *b)
{
    uint64_t total = 0;
    for (int kind = 0; kind < OP_KINDS; kind++) total += b->counters[kind].missing;
    return total;
}

static void text_row(FILE *out, const struct bench *b, const char *name, uint64_t ops,
                     uint64_t in_time, const struct kv_hist *h)
{
    (void)fprintf(out, "%-8s %10" PRIu64 " ops %10.0f/s   mean %8.0f us", name, ops,
                  per_second(b, in_time), mean_us(h));
    for (size_t i = 0; i < QUANTILES; i++)
        (void)fprintf(out, "   %s %.0f", quantiles[i].name,
                      us(kv_hist_quantile(h, quantiles[i].q)));
    (void)fprintf(out, "   max %.0f\n", us(h->max_ns));
}

static const char *distribution_name(const struct options *o)
{
    if (o->fill) return "each once";
    switch (o->distribution) {
    case KEYS_UNIFORM: return "uniform";
    case KEYS_ZIPF: return "zipf";
    case KEYS_LATEST: return "latest";
    }
    return "";
}

void report_text(const struct bench *b, FILE *out)
{
    const struct options *o = &b->options;
    (void)fprintf(out,
                  "%s at %s, %" PRIu32 " clients x depth %" PRIu32 ", %s, %" PRIu64
                  " keys %s, values %" PRIu32 "-%" PRIu32 " B, ",
                  o->protocol->name, o->address_text, o->clients, o->depth, o->mix, o->keys,
                  distribution_name(o), o->value_min, o->value_max);
    if (o->rate > 0)
        (void)fprintf(out, "open loop %.0f/s %s, %.2f s\n", o->rate, o->poisson ? "poisson" : "even",
                      seconds(b));
    else
        (void)fprintf(out, "closed loop, %.2f s\n", seconds(b));
    for (int kind = 0; kind < OP_KINDS; kind++) {
        const struct counters *c = &b->counters[kind];
        if (c->ok == 0) continue;
        text_row(out, b, kind_names[kind], c->ok, c->in_time, &c->latency);
        if (o->rate > 0) text_row(out, b, " service", c->ok, c->in_time, &c->service);
    }
    (void)fprintf(out,
                  "total    %10" PRIu64 " ops %10.0f/s   errors %" PRIu64 ", missing %" PRIu64
                  ", wrong values %" PRIu64 ", this client's cpu %.2f us/op\n",
                  total_ops(b), per_second(b, total_in_time(b)), b->errors, total_missing(b), b->wrong,
                  total_ops(b) == 0 ? 0 : b->cpu_seconds * 1e6 / (double)total_ops(b));
    if (b->refused > 0)
        (void)fprintf(out, "busy     %10" PRIu64 " times told to come again, and did\n", b->refused);
    if (b->dropped > 0)
        (void)fprintf(out,
                      "overload: %" PRIu64 " operations were due and could never be sent; the "
                      "latencies above do not hold them\n",
                      b->dropped);
    for (size_t i = 0; i < ERROR_KINDS_MAX && b->error_kinds[i].count > 0; i++)
        (void)fprintf(out, "error    %10" PRIu64 " x %s\n", b->error_kinds[i].count,
                      b->error_kinds[i].text);
}

static json_t *json_latency(const struct kv_hist *h)
{
    json_t *o = json_object();
    (void)json_object_set_new(o, "mean", json_real(mean_us(h)));
    for (size_t i = 0; i < QUANTILES; i++)
        (void)json_object_set_new(o, quantiles[i].name,
                                  json_real(us(kv_hist_quantile(h, quantiles[i].q))));
    (void)json_object_set_new(o, "max", json_real(us(h->max_ns)));
    return o;
}

static json_t *json_count(uint64_t n)
{
    return json_integer((json_int_t)n);
}

void report_json(const struct bench *b, FILE *out)
{
    const struct options *o = &b->options;
    json_t *kinds = json_object(), *errors = json_array();
    for (int kind = 0; kind < OP_KINDS; kind++) {
        const struct counters *c = &b->counters[kind];
        if (c->ok == 0) continue;
        json_t *one = json_object();
        (void)json_object_set_new(one, "ops", json_count(c->ok));
        (void)json_object_set_new(one, "rate", json_real(per_second(b, c->in_time)));
        (void)json_object_set_new(one, "missing", json_count(c->missing));
        (void)json_object_set_new(one, "latency_us", json_latency(&c->latency));
        (void)json_object_set_new(one, "service_us", json_latency(&c->service));
        (void)json_object_set_new(kinds, kind_names[kind], one);
    }
    for (size_t i = 0; i < ERROR_KINDS_MAX && b->error_kinds[i].count > 0; i++) {
        json_t *text = json_string(b->error_kinds[i].text); /* NULL if not UTF-8 */
        json_t *one = json_object();
        (void)json_object_set_new(one, "count", json_count(b->error_kinds[i].count));
        (void)json_object_set_new(one, "text", text != NULL ? text : json_string("(binary)"));
        (void)json_array_append_new(errors, one);
    }
    json_t *root = json_object();
    (void)json_object_set_new(root, "version", json_integer(1));
    (void)json_object_set_new(root, "protocol", json_string(o->protocol->name));
    (void)json_object_set_new(root, "addresses", json_string(o->address_text));
    (void)json_object_set_new(root, "clients", json_count(o->clients));
    (void)json_object_set_new(root, "depth", json_count(o->depth));
    (void)json_object_set_new(root, "mix", json_string(o->mix));
    (void)json_object_set_new(root, "level", json_string(kv_level_text(o->level)));
    (void)json_object_set_new(root, "distribution", json_string(distribution_name(o)));
    (void)json_object_set_new(root, "keys", json_count(o->keys));
    (void)json_object_set_new(root, "value_min", json_count(o->value_min));
    (void)json_object_set_new(root, "value_max", json_count(o->value_max));
    (void)json_object_set_new(root, "rate_asked", json_real(o->rate));
    (void)json_object_set_new(root, "seconds", json_real(seconds(b)));
    (void)json_object_set_new(root, "ops", json_count(total_ops(b)));
    (void)json_object_set_new(root, "rate", json_real(per_second(b, total_in_time(b))));
    (void)json_object_set_new(root, "answered", json_count(b->answered)); /* warm-up included */
    (void)json_object_set_new(root, "kinds", kinds);
    (void)json_object_set_new(root, "errors", json_count(b->errors));
    (void)json_object_set_new(root, "error_kinds", errors);
    (void)json_object_set_new(root, "missing", json_count(total_missing(b)));
    (void)json_object_set_new(root, "wrong", json_count(b->wrong));
    (void)json_object_set_new(root, "never_sent", json_count(b->dropped));
    (void)json_object_set_new(root, "refused", json_count(b->refused)); /* and sent again, by --fill */
    (void)json_object_set_new(root, "client_cpu_seconds", json_real(b->cpu_seconds));
    (void)json_dumpf(root, out, JSON_COMPACT | JSON_REAL_PRECISION(9) | JSON_SORT_KEYS);
    (void)fputc('\n', out);
    json_decref(root);
}
