package main

import (
	"fmt"
	"strings"
)

// The text of part `index` of stream `id`: both sides know it, so one that is lost, doubled or swapped shows.
func token(id, index int) string {
	return fmt.Sprintf("s%d.%d ", id, index)
}

func part(id, index int) string {
	return fmt.Sprintf(`{"state":"ok","msg":{"model":"demo","prompt_length":3,"response_length":%d,"finish_reason":null,`+
		`"content":"%s","done":false,"id":"bench-%d","index":%d,"token_ids":[%d]}}`+"\n",
		index+1, token(id, index), id, index, index)
}

func lastPart(id, parts int) string {
	return fmt.Sprintf(`{"state":"ok","msg":{"model":"demo","prompt_length":3,"response_length":%d,"finish_reason":"stop",`+
		`"content":null,"done":true,"id":"bench-%d","index":%d,"token_ids":[],"prompt_tokens":3,"completion_tokens":%d,`+
		`"total_tokens":%d,"seed":1}}`+"\n", parts, id, parts, parts, parts+3)
}

func whole(id, parts int) string {
	var text strings.Builder
	for i := 0; i < parts; i++ {
		text.WriteString(token(id, i))
	}
	return fmt.Sprintf(`{"state":"ok","msg":{"model":"demo","prompt_length":3,"response_length":%d,"finish_reason":"stop",`+
		`"content":"%s","id":"bench-%d"}}`, parts, text.String(), id)
}
