package host

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links may be on the way to a file, as for the kernel.
const maxLinks = 40

// Follow returns where the symbolic links of path lead, in a file system whose root is
// seen at root: left to the kernel, one with an absolute target leads to a file of
// ours. What does not exist is no link. It is false where the links do not end.
func Follow(root, path string) (string, bool) {
	at, todo := "/", strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		next := filepath.Join(at, todo[0])
		todo = todo[1:]
		to, err := os.Readlink(root + next)
		if err != nil { // no link, or nothing at all
			at = next
			continue
		}
		if links++; links > maxLinks {
			return path, false
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return at, true
}
