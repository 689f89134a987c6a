# The injected files of a config drive, from the flattened metadata: `content_path<TAB>path`, a line a file.

BEGIN { FS = "\t" }
match($1, /^\.files\[[0-9]+\]\.content_path$/) { content[number($1)] = $2 }
match($1, /^\.files\[[0-9]+\]\.path$/) { path[number($1)] = $2 }
END { for (each = 0; each in path; each++) if (each in content) print content[each] "\t" path[each] }

function number(name) { gsub(/[^0-9]/, "", name); return name + 0 }
