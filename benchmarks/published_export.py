"""The tables of docs/export.md: exported models beside those they were made from, and what coarser weights cost."""

from tables import Table, rows

PAGE = "docs/export.md"
CODE = ("xt/exporting/exported.py", "xt/streaming/pieces.py", "xt/context_encoders/kernels")
WEIGHTS = ("xt/region_encoders/weight_types.py",)

TABLES: dict[str, Table] = {
    "export": Table(
        page=PAGE,
        results="export",
        code=CODE,
        key="context",
        write=rows(
            {
                "": lambda row: f"`{row['context']}`, {row['head']}, {row['graphs']}",
                "tokens": "tokens",
                "answers apart": lambda row: f"{row['apart']:.1e}",
                "memory": lambda row: f"{row['peak_MB']:,.0f} MB",
                "exported": lambda row: f"{row['exported_MB']:,.0f} MB",
                "share": lambda row: f"{row['share']:.2f}",
                "processor-seconds": lambda row: f"{row['processor_seconds']:.1f}",
                "of the export": lambda row: f"{row['exported_processor_seconds']:.1f}",
            }
        ),
    ),
    "export-digits": Table(
        page=PAGE,
        results="export_digits",
        code=WEIGHTS,
        write=rows(
            {
                "weights": "weights",
                "right": lambda row: f"{100 * row['accuracy']:.2f} %",
                "other answers": lambda row: f"{row['changed']} of 2,000",
                "probabilities apart": lambda row: f"{row['apart']:.4f}",
                "region encoder": lambda row: f"{row['encoder_kB']:,} kB",
            }
        ),
    ),
}
