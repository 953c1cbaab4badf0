{{/* What all pods of the chart have in common; they keep to the restricted pod security standard. */}}

{{- define "modelengine.podLabels" -}}
{{- merge (include "modelengine.labels" . | fromYaml) .root.Values.podLabels | toYaml }}
{{- end }}

{{/* `needsApi`: whether the pod talks to the API server. */}}
{{- define "modelengine.podBasics" -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: {{ .needsApi }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
{{- end }}

{{- define "modelengine.containerBasics" -}}
image: {{ include "modelengine.image" (dict "image" .Values.image "version" .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end }}

{{/* Where the registries and the ModelEngines are, for every process that looks for them. */}}
{{- define "modelengine.whereToLook" -}}
- name: MODELENGINE_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: MODELENGINE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}
