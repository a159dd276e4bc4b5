#ifndef JEPSEN_REPORT_H
#define JEPSEN_REPORT_H
/* Writes DIR/REPORT.md from DIR/RUN/result.json of all runs. Returns an exit code: 1 if it cannot, or
 * if there is no run at all. */
int report_write(const char *dir);
#endif
