package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/swiftblock/csi-swiftblock/pkg/image"
)

// output is how a command says what it did: for people, or as one JSON value.
type output struct{ json bool }

func (o *output) add(c *cobra.Command) {
	c.Flags().BoolVar(&o.json, "json", false, "print the result as JSON")
}

// print prints v as JSON, or what people prints.
func (o *output) print(c *cobra.Command, v any, people func(w io.Writer)) error {
	out := c.OutOrStdout()
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	people(w)
	return w.Flush()
}

// row prints the cells of a table's row; it ends up aligned.
func row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			io.WriteString(w, "\t")
		}
		fmt.Fprint(w, cell)
	}
	io.WriteString(w, "\n")
}

// orDash stands for nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printable keeps a name from breaking a table: names may hold any character.
func printable(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// sizeText writes a size as Kubernetes users do, to one decimal.
func sizeText(n int64) string {
	units := []string{"", "Ki", "Mi", "Gi", "Ti"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + units[u]
}

// timeText writes a date to the second, in UTC.
func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// parseSize reads a size as Kubernetes users write it; "" is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Value() <= 0 || q.Value()%image.Sector != 0 {
		return 0, fmt.Errorf("size %.40q: want whole sectors of %d bytes, such as 20Gi", s, image.Sector)
	}
	return q.Value(), nil
}
