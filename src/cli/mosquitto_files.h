// The files around a mosquitto.conf: reads it with what it includes, checks the password, key and rule files that it
// names, writes what came of it. Main thread only.
#pragma once

#include "cli/mosquitto_plan.h"

// Reads the file and those in its include_dirs. What is wrong with them becomes findings.
void mosquitto_read_files(struct mosquitto_conf *conf, const char *path, const struct mosquitto_place *place);

// Looks at the files of a plan as the broker will.
void mosquitto_check_files(struct mosquitto_conf *conf, const struct mosquitto_plan *plan);

// Writes the configuration as `path`, which must not exist.
CHECK_RESULT enum status mosquitto_write_file(const char *path, struct span text, struct error *error);

// Makes the directory if need be, and in it skerry.yaml and the plan's files. None of these may exist. Root gives the
// copies to the user that the broker becomes. After a failure none of them does.
CHECK_RESULT enum status mosquitto_write_directory(const char *directory, const struct mosquitto_plan *plan,
                                                   struct span text, struct error *error);
