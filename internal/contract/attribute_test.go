package contract

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestAttributesAreWhatWasSaid(t *testing.T) {
	for key, said := range map[string]any{
		AttrVerdict:  Verdict{Test: "TestA", Promise: NoStall, Outcome: Kept},
		AttrFinding:  Finding{Promise: NoStall, Seed: 7},
		AttrUnknown:  Paths{"A@f": {}},
		AttrBaseline: Baseline{Method: "stress", Limit: time.Second, Tried: 3},
		AttrOwes:     Owes{Contract: Lossless, Promises: []Promise{NoStall}},
		AttrAt:       At{Doing: "fill the rings", Schedules: 2},
		AttrOverdue:  Overdue{What: "schedule s", Limit: time.Second},
	} {
		value, err := json.Marshal(said)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Attribute(key, string(value)); err != nil || !reflect.DeepEqual(got, said) {
			t.Errorf("%s: have %+v, %v; want %+v", key, got, err, said)
		}
		if got, err := Attribute(key, string(value[:len(value)-1])); got != nil || err == nil {
			t.Errorf("%s, cut off: have %+v, %v; want an error", key, got, err)
		}
	}
	for _, key := range []string{AttrMarked, AttrPackets, "somebody.else"} {
		if got, err := Attribute(key, "1"); got != nil || err != nil {
			t.Errorf("%s: have %v, %v; want neither", key, got, err)
		}
	}
}
