# values.awk: the values of a chart as a table, from values.yaml: each with its default and
# the comment above it. A comment ends at an empty line or a key.
function flush_row() {
	if (key != "") {
		gsub(/\|/, "\\|", text)
		printf "| `%s` | %s | %s |\n", key, (value == "" ? "" : "`" value "`"), text
	}
	key = value = text = ""
}
/^ *#/ {
	line = $0
	sub(/^ *# ?/, "", line)
	comment = comment == "" ? line : comment " " line
	next
}
/^$/ { comment = ""; next }
/^ *- / {
	if (key != "" && value == "") value = "see values.yaml"
	match($0, /^ */)
	item = RLENGTH + 1
	next
}
item && match($0, /^ */) && RLENGTH >= item { next } # of an item of a list
/^ *[A-Za-z][A-Za-z0-9]*:/ {
	flush_row()
	item = 0
	match($0, /^ */)
	depth = RLENGTH / 2
	name = $0
	sub(/^ */, "", name)
	value = name
	sub(/:.*/, "", name)
	sub(/^[^:]*: ?/, "", value)
	path[depth] = name
	key = path[0]
	for (i = 1; i <= depth; i++) key = key "." path[i]
	text = comment
	comment = ""
	if (value == "" && text == "") key = ""
}
END { flush_row() }
