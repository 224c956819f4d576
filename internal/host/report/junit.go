package report

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/ringproof/ringproof/internal/contract"
)

// The elements of JUnit's XML, as CI systems read it: windyroad's JUnit.xsd, without
// times, which a verdict has none of.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Failure *junitMessage `xml:"failure"`
		Error   *junitMessage `xml:"error"`
		Skipped *junitMessage `xml:"skipped"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// junit is the run in JUnit's XML: a promise that is broken is a failure, one that is
// undecided an error, and a check that could not run is skipped.
func (r *Run) junit() ([]byte, error) {
	all := junitSuites{Name: "ringproof", Time: fmt.Sprintf("%.3f", r.Seconds)}
	for _, s := range r.suites() {
		suite := junitSuite{Name: s.name, Tests: len(s.cases), Timestamp: r.Started.UTC().Format("2006-01-02T15:04:05"), Properties: []junitProperty{
			{"kernel", r.Booted()}, {"contract", string(r.Contract)}, {"command", r.Command},
		}}
		for _, c := range s.cases {
			class := "ringproof." + s.name
			title, rest, _ := strings.Cut(c.why, "\n")
			message := &junitMessage{Message: title, Type: string(c.outcome), Text: rest}
			it := junitCase{Name: c.name, Class: class}
			switch c.outcome {
			case contract.Kept:
			case contract.Broken:
				it.Failure = message
				suite.Failures++
			case contract.NotRun:
				message.Type = "" // no attribute of this element
				it.Skipped = message
				suite.Skipped++
			default:
				it.Error = message
				suite.Errors++
			}
			suite.Cases = append(suite.Cases, it)
		}
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Errors += suite.Errors
		all.Skipped += suite.Skipped
		all.Suites = append(all.Suites, suite)
	}
	data, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode JUnit's XML: %w", err)
	}
	return append([]byte(xml.Header), append(data, '\n')...), nil
}
