"""What a config may name: the tables. Whatever they do not list, a config may not name.

A deny-list alone cannot hold: MONAI and PyTorch have hundreds of functions that load, run, build or
download something, and modules that have imported ``os``; our own write and replace files. The
tables therefore list what is allowed; `DENIED` only says why for what people may miss.
"""

from __future__ import annotations


def words(*lines: str) -> frozenset[str]:
    """Return the words of some lines, for tables that are read as text."""
    return frozenset(word for line in lines for word in line.split())


MODULES = frozenset({"dim_monai", "logging", "monai", "numpy", "os", "torch", "warnings"})
"""What `imports` may import, each with all that lies below it: what is reached is checked where it
is used."""

GLOBALS = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}
"""The modules that MONAI gives every expression."""

BUILTINS = words(
    "abs all any bool dict enumerate float int len list max min range reversed round set sorted",
    "str sum tuple zip",
)
"""Functions of Python that an expression may call."""

MONAI_PACKAGES = tuple(
    f"monai.{name}"
    for name in sorted(
        words("data engines handlers inferers losses metrics networks optimizers transforms")
    )
)
"""All of their classes may be named; short names are looked for here."""

DIM_MONAI_PACKAGES = tuple(
    f"dim_monai.{name}" for name in sorted(words("engine handlers inference methods networks"))
)
"""All of their classes may be named, in full."""

TORCH_PACKAGES = frozenset(
    {
        "torch.amp",
        "torch.cuda.amp",
        "torch.nn",
        "torch.nn.parallel",
        "torch.optim",
        "torch.optim.lr_scheduler",
        "torch.optim.swa_utils",
        "torch.utils.data",
    }
)
"""All of their classes may be named."""


def _below(module: str, names: str) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for name in words(names))


OBJECTS = frozenset().union(
    _below("dim_monai.bundle", "bundle_root check_overrides check_settings config_digest"),
    _below("dim_monai.bundle", "running_config section_digest show_cause_last"),
    _below("dim_monai.data.cache", "CaseCache"),
    _below("dim_monai.data.digest", "data_digest"),
    _below("dim_monai.data.field_of_view", "RandFieldOfViewd"),
    _below("dim_monai.data.labels", "LabelMapping MapLabelsd"),
    _below("dim_monai.data.loader", "TwoStreamLoader"),
    _below("dim_monai.data.neighbours", "NeighbouringSlicesd"),
    _below("dim_monai.data.output", "MirroredLayout WholeNiftiWriter WholePngWriter"),
    _below("dim_monai.data.reader", "CaseReader"),
    _below("dim_monai.data.slices", "SliceDataset"),
    _below("dim_monai.data.source", "begin_run evaluation_datalist inference_cases"),
    _below("dim_monai.data.source", "refuse_test_cases require_sound_evaluation"),
    _below("dim_monai.data.source", "require_sound_inference require_sound_training"),
    _below("dim_monai.data.source", "training_datalist with_split"),
    _below("dim_monai.data.weights", "model_of start_from"),
    _below("dim_monai.data.working_size", "WorkingSized"),
    _below("dim_monai.handlers.run_checkpoint", "end_run require_same_run"),
    _below("dim_monai.label.lists", "pretrained_model served_datalist study_folder"),
    _below("dim_monai.report.run", "write_run_report"),
    _below("logging", "CRITICAL DEBUG ERROR INFO WARNING disable"),
    _below("monai.data", "decollate_batch list_data_collate load_decathlon_datalist"),
    _below("monai.data", "pad_list_data_collate partition_dataset select_cross_validation_folds"),
    _below("monai.handlers", "from_engine ignore_data"),
    _below("monai.handlers", "stopping_fn_from_loss stopping_fn_from_metric"),
    _below("monai.inferers", "sliding_window_inference"),
    _below("monai.networks", "one_hot"),
    _below("monai.utils", "ensure_tuple ensure_tuple_rep first set_determinism"),
    _below("monai.utils.CommonKeys", "IMAGE LABEL LOSS PRED"),
    _below("numpy", "arange array asarray ceil clip concatenate floor full inf linspace log max"),
    _below("numpy", "mean min nan ones pi prod round sqrt stack sum zeros"),
    _below("numpy", "bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32"),
    _below("os", "cpu_count environ.get"),
    _below("os.path", "basename dirname exists isdir isfile join splitext"),
    _below("torch", "arange as_tensor cat device eye full linspace manual_seed ones softmax"),
    _below("torch", "sigmoid argmax stack tensor zeros Generator Size Tensor"),
    _below("torch", "bfloat16 bool double float float16 float32 float64 half int int8 int16 int32"),
    _below("torch", "int64 long uint8 channels_last channels_last_3d contiguous_format"),
    _below("torch.cuda", "current_device device_count empty_cache is_available set_device"),
    _below("torch.distributed", "barrier destroy_process_group get_rank get_world_size"),
    _below("torch.distributed", "init_process_group is_available is_initialized"),
    _below("warnings", "filterwarnings simplefilter"),
)
"""Functions, constants and single classes that may be named; a chain must be one of them as it is,
and goes no further."""

SUBSCRIPTED = frozenset({"os.environ"})
"""What may be read by a literal key, and not be passed on."""

_LOADS = "it unpickles or loads code"
_RUNS = "it runs programs"
_BUNDLES = "it reads, downloads or runs other bundles"

DENIED: dict[str, str] = {
    "monai.apps": "it downloads, unpacks and runs",
    "monai.auto3dseg": _RUNS,
    "monai.bundle": _BUNDLES,
    "monai.data.torchscript_utils": _LOADS,
    "monai.fl": _BUNDLES,
    "monai.handlers.TrtHandler": _LOADS,
    "monai.losses.perceptual": "it downloads and runs code",
    "monai.networks.trt_compiler": _LOADS,
    "monai.networks.utils": "it loads and exports networks",
    "monai.utils": "it imports modules and runs programs by name",
    "os": _RUNS,
    "torch.classes": _LOADS,
    "torch.compile": "its backends are code",
    "torch.distributed.launch": _RUNS,
    "torch.distributed.rpc": "it runs what others send",
    "torch.distributed.run": _RUNS,
    "torch.hub": "it downloads and runs code",
    "torch.jit": _LOADS,
    "torch.load": _LOADS,
    "torch.multiprocessing": _RUNS,
    "torch.ops": _LOADS,
    "torch.package": _LOADS,
    "torch.save": "results are written by handlers",
    "torch.serialization": _LOADS,
    "torch.utils.cpp_extension": "it compiles and loads C++",
    "torch.utils.model_zoo": "it downloads and unpickles",
}
"""Beginning of a dotted name -> why. Of two that fit the longer one says it; what `OBJECTS` lists
is allowed none the less."""

DENIED_ATTRIBUTES = words(
    # to files, programs and modules
    "builtins compile ctypes ctypeslib dump dumps eval exec execv execve from_file fromfile",
    "globals importlib load_library open os pickle popen query register_class rename rmdir save",
    "shutil socket spawn subprocess sys system tofile touch unlink write write_bytes write_text",
    # to frames, code and classes
    "ag_code ag_frame cr_code cr_frame cr_origin f_back f_builtins f_code f_globals f_locals",
    "func_globals gi_code gi_frame gi_yieldfrom mro tb_frame tb_next",
    # format strings walk attributes by themselves
    "format format_map",
)
"""Attributes of an object that a config may not use. Modules are never objects of an expression, so
this is the second line of defence."""

ARGUMENTS: dict[str, object] = {"allow_pickle": False, "weights_only": True}
"""Arguments that let data run code, and the only value that they may have."""

NAMING_ARGUMENTS = words("merger_cls reader writer")
"""Arguments that MONAI imports and calls where they are strings."""

NAMING_CLASSES = ("ImageDataset", "LoadImage", "PatchInferer", "SaveImage")
"""Beginnings of the classes that take them."""

READERS = words(
    "cucim itkreader nibabelreader nrrdreader numpyreader nvimagecodecreader openslide pilreader",
    "pydicomreader tifffile wsireader",
)
"""Short words for readers that MONAI knows, in lower case."""
