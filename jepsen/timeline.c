#include "jepsen/timeline.h"
#include <math.h>
#include <stdlib.h>

/* Operations are drawn as cells of a grid, darker where there are more: the picture stays small
 * however many there were. Drawn in the order ok, fail, info, so that the rare lies on top. */
enum {
    LEFT = 64,
    RIGHT = 1184,
    WIDTH = 1200,
    BAR_HEIGHT = 14,
    BAR_STEP = 17,
    TOP = 122,
    LATENCY_HEIGHT = 250,
    CELL = 4,
    RATE_TOP = TOP + LATENCY_HEIGHT + 26,
    RATE_HEIGHT = 56,
    LANES_TOP = RATE_TOP + RATE_HEIGHT + 22,
    LANE_HEIGHT = 9,
    LANE_STEP = 13,
    AXIS = LANES_TOP + LANES * LANE_STEP + 4,
    LEGEND = AXIS + 40,
    HEIGHT = LEGEND + 14,
    COLUMNS = (RIGHT - LEFT) / CELL,
    ROWS = LATENCY_HEIGHT / CELL + 1,
    DECADE_MIN = 4,
    DECADES = 6 /* 10^4 ns = 10 us up to 10 s */
};

static const char *const colours[] = {"#2f6fab", "#e08a00", "#c4161c"}; /* ok, fail, info */
static const char *const outcomes[] = {"ok, darker: more of them", "fail: surely not applied", "info: nobody knows"};
static const char *const shade = "#f0c878", *const serving = "#6fc28b", *const silent = "#5a2d2d";

struct picture {
    FILE *out;
    const struct run *r;
    double span_ns;
    uint32_t cells[3][ROWS][COLUMNS];
    uint32_t rates[COLUMNS];
    bool alive[LANES][COLUMNS];
};

uint32_t timeline_lane(const struct run *r, const char *key)
{
    uint32_t lane = 0, tag = strncmp(key, "{t", 2) == 0 ? (uint32_t)strtoul(key + 2, NULL, 10) : UINT32_MAX;
    while (lane < LANES && r->plan.lanes[lane].tag != tag) lane++;
    return lane;
}

static double x_of(const struct picture *p, uint64_t ns)
{
    double x = LEFT + (RIGHT - LEFT) * (double)ns / p->span_ns;
    return x > RIGHT ? RIGHT : x;
}

static double y_of(double ns)
{
    double decades = log10(ns < 1 ? 1 : ns) - DECADE_MIN;
    if (decades < 0) decades = 0;
    if (decades > DECADES) decades = DECADES;
    return TOP + LATENCY_HEIGHT * (1 - decades / DECADES);
}

static uint32_t column_of(const struct picture *p, uint64_t ns)
{
    uint32_t column = (uint32_t)((x_of(p, ns) - LEFT) / CELL);
    return column < COLUMNS ? column : COLUMNS - 1;
}

static void text(struct picture *p, double x, double y, const char *class, const char *words)
{
    fprintf(p->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    for (; *words != '\0'; words++) {
        if (*words == '<') fputs("&lt;", p->out);
        else if (*words == '>') fputs("&gt;", p->out);
        else if (*words == '&') fputs("&amp;", p->out);
        else fputc(*words, p->out);
    }
    fputs("</text>\n", p->out);
}

/* ---- collecting ---- */

static void collect(struct picture *p, const struct history *h)
{
    for (uint32_t i = 0; i < h->op_count; i++) {
        const struct history_op *op = &h->ops[i];
        uint32_t lane = timeline_lane(p->r, h->keys[op->key]);
        if (op->ret_ns == 0) continue; /* a deadline that never came, or cut off: no latency */
        if (op->f == HISTORY_CAS && p->r->plan.lanes[0].busy_until_ns != 0) continue; /* a deadline of ttl */
        uint32_t kind = op->outcome == HISTORY_OK ? 0 : op->outcome == HISTORY_FAIL ? 1 : 2;
        uint32_t row = (uint32_t)((y_of((double)(op->ret_ns - op->call_ns)) - TOP) / CELL);
        uint32_t column = column_of(p, op->ret_ns);
        p->cells[kind][row < ROWS ? row : ROWS - 1][column]++;
        if (kind != 0) continue;
        /* The final reads, as fast as they can be, would set the scale. */
        if (op->ret_ns < p->r->heal_ns) p->rates[column]++;
        if (lane < LANES) p->alive[lane][column] = true;
    }
}

/* ---- drawing ---- */

/* A bar with its name above the picture, those of faults that overlap one over the other, and a shade
 * below, deeper where more are on. A name may run on until the next bar of its row. */
static void draw_fault(struct picture *p, const struct fault *f, uint32_t level, uint64_t next_ns)
{
    static const char *const bars[FAULTS_AT_ONCE_MAX] = {"#f0c878", "#cdb4e6", "#a9d6b0"};
    double from = x_of(p, f->from_ns), to = x_of(p, f->to_ns), width = to - from < 2 ? 2 : to - from;
    int top = TOP - 8 - BAR_HEIGHT - BAR_STEP * (int)level;
    size_t room = (size_t)((x_of(p, next_ns) - from - 4) / 6);
    char words[FAULT_TEXT_BYTES + 24];
    fprintf(p->out,
            "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\" fill-opacity=\"0.24\"/>\n"
            "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\" fill=\"%s\"><title>%s %s: "
            "%s</title></rect>\n",
            from, TOP, width, AXIS - TOP, shade, from, top, width, BAR_HEIGHT, bars[level % FAULTS_AT_ONCE_MAX],
            f->kind->name, f->detail, f->proof);
    snprintf(words, sizeof words, "%s %s", f->kind->name, f->detail);
    if (room < strlen(words)) words[room] = '\0';
    text(p, from + 3, top + 11, "fault", words);
}

static void draw_faults(struct picture *p)
{
    const struct nemesis *n = &p->r->nemesis;
    for (uint32_t i = 0, end; i < n->fault_count; i = end) {
        for (end = i + 1; end < n->fault_count && n->faults[end].from_ns < n->faults[i].to_ns; end++) {}
        uint64_t next_ns = end < n->fault_count ? n->faults[end].from_ns : p->r->end_ns;
        for (uint32_t k = i; k < end; k++) draw_fault(p, &n->faults[k], k - i, next_ns);
    }
}

static void draw_axes(struct picture *p)
{
    static const char *const labels[] = {"10 \xc2\xb5s", "100 \xc2\xb5s", "1 ms", "10 ms", "100 ms", "1 s", "10 s"};
    for (int d = 0; d <= DECADES; d++) {
        double y = TOP + LATENCY_HEIGHT * (1 - (double)d / DECADES);
        fprintf(p->out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>\n", LEFT, RIGHT, y, y);
        text(p, LEFT - 6, y + 4, "tick end", labels[d]);
    }
    text(p, LEFT + 2, TOP + 13, "panel", "latency of each operation, where it ended");
    unsigned seconds = (unsigned)(p->span_ns / 1000000000), step = seconds > 60   ? 10
                                                                   : seconds > 24 ? 5
                                                                   : seconds > 12 ? 2
                                                                                  : 1;
    for (unsigned s = 0; s <= seconds; s += step) {
        char label[16];
        double x = x_of(p, (uint64_t)s * 1000000000);
        snprintf(label, sizeof label, "%u s", s);
        fprintf(p->out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" class=\"grid\"/>\n", x, x, TOP, AXIS);
        text(p, x, AXIS + 16, "tick middle", label);
    }
}

static void draw_cells(struct picture *p)
{
    for (int kind = 0; kind < 3; kind++) {
        fprintf(p->out, "<g fill=\"%s\">\n", colours[kind]);
        for (uint32_t row = 0; row < ROWS; row++)
            for (uint32_t column = 0; column < COLUMNS; column++) {
                uint32_t count = p->cells[kind][row][column];
                if (count == 0) continue;
                double opacity = kind == 0 ? 0.25 + 0.3 * log2(count) : 0.6 + 0.2 * log2(count);
                fprintf(p->out, "<rect x=\"%u\" y=\"%u\" width=\"%d\" height=\"%d\" opacity=\"%.2f\"/>\n",
                        LEFT + column * CELL, TOP + row * CELL, CELL, CELL, opacity > 1 ? 1 : opacity);
            }
        fputs("</g>\n", p->out);
    }
}

static void draw_rate(struct picture *p)
{
    double cell_s = p->span_ns / 1e9 / COLUMNS;
    uint32_t most = 1;
    char label[40];
    for (uint32_t i = 0; i < COLUMNS; i++) most = p->rates[i] > most ? p->rates[i] : most;
    fprintf(p->out, "<path fill=\"%s\" fill-opacity=\"0.75\" d=\"M%d %d", colours[0], LEFT, RATE_TOP + RATE_HEIGHT);
    for (uint32_t i = 0; i < COLUMNS; i++) {
        double y = RATE_TOP + RATE_HEIGHT * (1 - (double)p->rates[i] / most);
        fprintf(p->out, "L%u %.1fL%u %.1f", LEFT + i * CELL, y, LEFT + (i + 1) * CELL, y);
    }
    fprintf(p->out, "L%u %dZ\"/>\n", LEFT + COLUMNS * CELL, RATE_TOP + RATE_HEIGHT);
    snprintf(label, sizeof label, "%.0f/s", most / cell_s);
    text(p, LEFT - 6, RATE_TOP + 8, "tick end", label);
    text(p, LEFT - 6, RATE_TOP + RATE_HEIGHT, "tick end", "0");
    text(p, LEFT, RATE_TOP - 5, "panel", "operations that succeeded");
}

/* Dark where nothing on the lane succeeded for a while; a few clients cannot fill every cell. */
static void draw_lanes(struct picture *p, const struct timeline_gap *gap)
{
    uint32_t while_columns = 1 + (uint32_t)(0.25e9 / p->span_ns * COLUMNS);
    text(p, LEFT, LANES_TOP - 5, "panel", "partitions, one strip each");
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t y = LANES_TOP + lane * LANE_STEP;
        fprintf(p->out, "<rect x=\"%d\" y=\"%u\" width=\"%d\" height=\"%d\" fill=\"%s\"/>\n", LEFT, y,
                RIGHT - LEFT, LANE_HEIGHT, serving);
        for (uint32_t from = 0, to; from < COLUMNS; from = to + 1) {
            for (to = from; to < COLUMNS && !p->alive[lane][to]; to++) {
            }
            if (to - from > while_columns)
                fprintf(p->out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%d\" fill=\"%s\"/>\n",
                        LEFT + from * CELL, y, (to - from) * CELL, LANE_HEIGHT, silent);
        }
    }
    double from = x_of(p, gap->from_ns), to = x_of(p, gap->from_ns + gap->ns);
    uint32_t y = LANES_TOP + gap->lane * LANE_STEP;
    char words[32];
    fprintf(p->out, "<rect x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"%d\" fill=\"none\" stroke=\"#111\"/>\n", from, y,
            to - from, LANE_HEIGHT);
    snprintf(words, sizeof words, "%.2f s", (double)gap->ns / 1e9);
    if (to - from > 44) text(p, (from + to) / 2, y + 8, "gap inside middle", words);
    else if (to + 44 < RIGHT) text(p, to + 3, y + 8, "gap", words);
    else text(p, from - 3, y + 8, "gap end", words);
}

static double swatch(struct picture *p, double x, const char *colour, const char *words)
{
    fprintf(p->out, "<rect x=\"%.0f\" y=\"%d\" width=\"10\" height=\"10\" fill=\"%s\"/>\n", x, LEGEND - 9, colour);
    text(p, x + 14, LEGEND, "tick", words);
    return x + 40 + 6.0 * (double)strlen(words);
}

static void draw_legend(struct picture *p)
{
    double x = LEFT;
    for (int kind = 0; kind < 3; kind++) x = swatch(p, x, colours[kind], outcomes[kind]);
    x = swatch(p, x, shade, "a fault is on");
    x = swatch(p, x, serving, "serving");
    swatch(p, x, silent, "nothing succeeded for 0.25 s; framed: the longest");
    double heal = x_of(p, p->r->heal_ns);
    fprintf(p->out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#333\" stroke-dasharray=\"3 3\"/>\n",
            heal, heal, TOP, AXIS);
    text(p, heal - 3, TOP + LATENCY_HEIGHT + 12, "tick end", "healed: final reads");
}

bool timeline_write(const struct run *r, const struct history *h, const struct timeline_gap *gap,
                    const char *headline, const char *facts, const char *path)
{
    struct picture *p = calloc(1, sizeof *p);
    FILE *out = fopen(path, "we");
    bool good = p != NULL && out != NULL;
    if (!good) goto end;
    p->out = out;
    p->r = r;
    p->span_ns = (double)(r->end_ns > 0 ? r->end_ns : 1000000000u);
    collect(p, h);
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
            "<style>text{font-family:system-ui,sans-serif;fill:#222}.head{font-size:19px;font-weight:600}.facts{font-"
            "size:12px;fill:#555}"
            ".tick{font-size:11px;fill:#555}.fault{font-size:11px;fill:#6b4a00}.panel{font-size:11px;fill:#555}.gap{"
            "font-size:9px}.inside{fill:#fff}.end{"
            "text-anchor:end}"
            ".middle{text-anchor:middle}.grid{stroke:#000;stroke-opacity:.08}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    text(p, LEFT, 26, "head", headline);
    text(p, LEFT, 45, "facts", facts);
    draw_faults(p);
    draw_axes(p);
    draw_cells(p);
    draw_rate(p);
    draw_lanes(p, gap);
    draw_legend(p);
    fputs("</svg>\n", out);
    good = !ferror(out);
end:
    if (out != NULL && fclose(out) != 0) good = false;
    free(p);
    return good;
}
