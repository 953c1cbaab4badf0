{{/* The names, labels and images that the templates share. */}}

{{/* Short enough for every suffix that the templates append; a Service's name begins with a letter. */}}
{{- define "modelengine.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- fail (printf "the names of Services begin with a letter, %q does not: set fullnameOverride" $name) -}}
{{- end -}}
{{- $name | replace "." "-" | trunc 45 | trimSuffix "-" -}}
{{- end }}

{{/* `root` is the template's context, `component` the part's name. */}}
{{- define "modelengine.selector" -}}
app.kubernetes.io/name: modelengine
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "modelengine.labels" -}}
{{ include "modelengine.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: modelengine
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* `image` is a part of the values, `version` the tag where it has none. */}}
{{- define "modelengine.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end }}

{{/* The namespace of examples in texts. */}}
{{- define "modelengine.exampleNamespace" -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | first -}}
{{- end }}
