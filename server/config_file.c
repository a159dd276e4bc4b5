#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "client/base/text.h"
#include "client/wire/message.h"
#include "server/config.h"

/* The configuration file: one YAML document, a mapping of keys. `log: {level: debug}` and
 * `log.level: debug` are the same key; giving a key twice, in either spelling, is an error, as
 * is every key the table does not have. Every complaint says FILE:LINE. */

enum { FILE_BYTES_MAX = 1 << 20,
       DEPTH_MAX = 4,
       KEY_BYTES = 128,
       SEEN_MAX = 256 };

struct reader {
    struct config *config;
    const char *path;
    yaml_document_t document;
    char *why;
    size_t why_size;
    struct { /* keys met so far, to refuse repeats */
        char key[KEY_BYTES];
        size_t line;
    } seen[SEEN_MAX];
    size_t seen_count;
};

static enum kv_err fault(struct reader *r, const yaml_node_t *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum kv_err fault(struct reader *r, const yaml_node_t *node, const char *format, ...)
{
    char reason[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    (void)snprintf(r->why, r->why_size, "%s:%zu: %s", r->path, node->start_mark.line + 1, reason);
    return KV_BAD_ARGUMENT;
}

/* The scalar's text, or NULL for another kind of node or a text with NUL bytes. */
static const char *scalar(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE) return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

/* roles: [storage, gateway]; or one text of them, by commas. */
static enum kv_err roles_field(struct reader *r, struct config_node *out, const yaml_node_t *value)
{
    char text[64] = "";
    struct kv_slice bad;
    size_t size = 0;
    if (value->type == YAML_SEQUENCE_NODE) {
        for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top; i++) {
            const char *word = scalar(yaml_document_get_node(&r->document, *i));
            if (size < sizeof text) size += (size_t)snprintf(text + size, sizeof text - size, "%s%s", size == 0 ? "" : ",", word == NULL ? "?" : word);
        }
    } else if (scalar(value) != NULL) {
        size = (size_t)snprintf(text, sizeof text, "%s", scalar(value));
    }
    if (size < sizeof text && kv_node_roles_parse(kv_str(text), &out->roles, &bad)) return KV_OK;
    return fault(r, value, "cluster.nodes: roles \"%s\" are not storage, coordinator or gateway, each at most once", text);
}

static enum kv_err node_field(struct reader *r, struct config_node *out, uint32_t *given,
                              const yaml_node_t *key, const yaml_node_t *value)
{
    enum { ID,
           HOST,
           NATIVE,
           RESP,
           KEY,
           RESP_CLUSTER,
           ROLES,
           FIELDS };
    static const char *const names[FIELDS] = {"id", "host", "native", "resp", "key", "resp_cluster", "roles"};
    const char *name = scalar(key), *text = scalar(value);
    if (name == NULL) return fault(r, key, "cluster.nodes: a field's name must be a word");
    uint32_t field = 0;
    while (field < FIELDS && strcmp(names[field], name) != 0) field++;
    if (field == FIELDS)
        return fault(r, key, "cluster.nodes: unknown field %.64s (id, host, native, resp, resp_cluster, roles, key)",
                     name);
    if (*given & 1u << field) return fault(r, key, "cluster.nodes: %s is given twice", name);
    *given |= 1u << field;
    if (field == ROLES) return roles_field(r, out, value);
    if (text == NULL) return fault(r, value, "cluster.nodes: %s must be one value", name);

    uint64_t number = 0;
    bool may_be_off = field == RESP || field == RESP_CLUSTER;
    if (field == HOST) {
        /* The table's own rule for addresses, tried on a scratch configuration. */
        struct config *scratch = calloc(1, sizeof *scratch);
        char reason[512];
        if (scratch == NULL) return fault(r, value, "out of memory");
        enum kv_err err = config_set(scratch, "native.host", text, reason, sizeof reason);
        free(scratch);
        if (err != KV_OK)
            return fault(r, value, "cluster.nodes: host \"%.64s\" is not a literal address", text);
        (void)snprintf(out->host, sizeof out->host, "%s", text);
    } else if (field == KEY) {
        if (!kv_hex_decode(kv_str(text), out->key, sizeof out->key))
            return fault(r, value, "cluster.nodes: key is not 64 hex digits");
    } else if (!kv_parse_u64(kv_str(text), &number) || (number == 0 && !may_be_off) ||
               number > (field == ID ? UINT32_MAX : UINT16_MAX)) {
        return fault(r, value, "cluster.nodes: %s \"%.64s\" is not a number from %d to %" PRIu32,
                     name, text, may_be_off ? 0 : 1,
                     field == ID ? UINT32_MAX : (uint32_t)UINT16_MAX);
    }
    if (field == ID) out->id = (uint32_t)number;
    if (field == NATIVE) out->native = (uint16_t)number;
    if (field == RESP) out->resp = (uint16_t)number;
    if (field == RESP_CLUSTER) out->resp_cluster = (uint16_t)number;
    return KV_OK;
}

static enum kv_err read_nodes(struct reader *r, yaml_node_t *list)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return fault(r, list, "cluster.nodes: must be a list of mappings");
    for (yaml_node_item_t *i = list->data.sequence.items.start; i < list->data.sequence.items.top;
         i++) {
        yaml_node_t *item = yaml_document_get_node(&r->document, *i);
        if (item->type != YAML_MAPPING_NODE)
            return fault(r, item, "cluster.nodes: must be a list of mappings");
        if (r->config->node_count == CONFIG_NODES_MAX)
            return fault(r, item, "cluster.nodes: more than %d nodes", CONFIG_NODES_MAX);
        struct config_node node = {.native = 7401, .resp = 7400};
        uint32_t given = 0;
        const uint32_t needed = 0x13, cluster_port = 0x20; /* by their places in node_field() */
        for (yaml_node_pair_t *p = item->data.mapping.pairs.start; p < item->data.mapping.pairs.top;
             p++) {
            enum kv_err err =
                node_field(r, &node, &given, yaml_document_get_node(&r->document, p->key),
                           yaml_document_get_node(&r->document, p->value));
            if (err != KV_OK) return err;
        }
        if ((given & needed) != needed)
            return fault(r, item, "cluster.nodes: every node needs id, host and key");
        if ((given & cluster_port) == 0) node.resp_cluster = config_cluster_port(node.resp);
        r->config->nodes[r->config->node_count++] = node;
    }
    return KV_OK;
}

static enum kv_err note_key(struct reader *r, const char *key, const yaml_node_t *node)
{
    for (size_t i = 0; i < r->seen_count; i++)
        if (strcmp(r->seen[i].key, key) == 0)
            return fault(r, node, "%s: given twice, first on line %zu", key, r->seen[i].line);
    if (r->seen_count == SEEN_MAX) return fault(r, node, "%s: too many keys", key);
    (void)snprintf(r->seen[r->seen_count].key, KEY_BYTES, "%s", key);
    r->seen[r->seen_count++].line = node->start_mark.line + 1;
    return KV_OK;
}

/* The depth limit also bounds what aliases can make us walk: beyond it stand only unknown keys. */
static enum kv_err read_mapping(struct reader *r, yaml_node_t *mapping, const char *prefix,
                                int depth)
{
    for (yaml_node_pair_t *p = mapping->data.mapping.pairs.start;
         p < mapping->data.mapping.pairs.top; p++) {
        yaml_node_t *name = yaml_document_get_node(&r->document, p->key);
        yaml_node_t *value = yaml_document_get_node(&r->document, p->value);
        if (scalar(name) == NULL) return fault(r, name, "a key must be a word");
        char key[KEY_BYTES], reason[512];
        int size = snprintf(key, sizeof key, "%s%s%s", prefix, prefix[0] == '\0' ? "" : ".",
                            scalar(name));
        if (size < 0 || size >= KEY_BYTES)
            return fault(r, name, "%.64s..: unknown key, see kvd --help-config", key);
        enum kv_err err;
        if (value->type == YAML_MAPPING_NODE) {
            if (depth == DEPTH_MAX) return fault(r, value, "%s: nested too deep", key);
            if ((err = read_mapping(r, value, key, depth + 1)) != KV_OK) return err;
            continue;
        }
        if ((err = note_key(r, key, name)) != KV_OK) return err;
        if (strcmp(key, "cluster.nodes") == 0) {
            if ((err = read_nodes(r, value)) != KV_OK) return err;
            config_place(r->config, key, (int32_t)name->start_mark.line + 1);
            continue;
        }
        const char *text = scalar(value);
        /* An unknown key is the better complaint, whatever its value. */
        if (config_set(r->config, key, text == NULL ? "" : text, reason, sizeof reason) != KV_OK)
            return fault(r, name, "%s", reason);
        if (text == NULL) return fault(r, value, "%s: must be one value", key);
        config_place(r->config, key, (int32_t)name->start_mark.line + 1);
    }
    return KV_OK;
}

static enum kv_err parse(struct reader *r, FILE *file)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return KV_NO_SPACE;
    yaml_parser_set_input_file(&parser, file);
    enum kv_err err = KV_MALFORMED;
    if (!yaml_parser_load(&parser, &r->document)) {
        (void)snprintf(r->why, r->why_size, "%s:%zu: not YAML: %s", r->path,
                       parser.problem_mark.line + 1,
                       parser.problem == NULL ? "cannot be read" : parser.problem);
        goto parser;
    }
    yaml_node_t *root = yaml_document_get_root_node(&r->document);
    if (root == NULL) { /* an empty file: all defaults */
        err = KV_OK;
    } else if (root->type == YAML_MAPPING_NODE) {
        err = read_mapping(r, root, "", 1);
    } else {
        err = fault(r, root, "must be a mapping of keys, see kvd --help-config");
    }
    yaml_document_delete(&r->document);
    if (root == NULL || err != KV_OK) goto parser;

    if (!yaml_parser_load(&parser, &r->document)) {
        (void)snprintf(r->why, r->why_size, "%s:%zu: not YAML: %s", r->path,
                       parser.problem_mark.line + 1,
                       parser.problem == NULL ? "cannot be read" : parser.problem);
        err = KV_MALFORMED;
        goto parser;
    }
    root = yaml_document_get_root_node(&r->document);
    if (root != NULL) err = fault(r, root, "a second document; one is all a node reads");
    yaml_document_delete(&r->document);
parser:
    yaml_parser_delete(&parser);
    return err;
}

enum kv_err config_file(struct config *c, const char *path, char *why, size_t why_size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        enum kv_err err = errno == ENOENT ? KV_NOT_FOUND : KV_IO;
        (void)snprintf(why, why_size, "%s: %s", path, strerror(errno));
        return err;
    }
    /* All or nothing: a file with an error leaves the configuration as it was. */
    enum kv_err err = KV_NO_SPACE;
    struct reader *r = calloc(1, sizeof *r);
    struct config *next = malloc(sizeof *next);
    if (r == NULL || next == NULL) {
        (void)snprintf(why, why_size, "%s: out of memory", path);
        goto done;
    }
    long size = -1;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size < 0 || size > FILE_BYTES_MAX || fseek(file, 0, SEEK_SET) != 0) {
        (void)snprintf(why, why_size, "%s: not a regular file of at most %d bytes", path,
                       FILE_BYTES_MAX);
        err = KV_BAD_ARGUMENT;
        goto done;
    }
    *next = *c;
    next->node_count = 0;
    next->file = path;
    r->config = next;
    r->path = path;
    r->why = why;
    r->why_size = why_size;
    err = parse(r, file);
    if (err == KV_NO_SPACE) (void)snprintf(why, why_size, "%s: out of memory", path);
    if (err == KV_OK) *c = *next;
done:
    free(next);
    free(r);
    fclose(file);
    return err;
}
