"""The demo sets: synthetic cases of several domains, laid out as a user would lay out real ones.

    folder/
      datalist.json            labeled, unlabeled, validation, test; paths relative to folder
      images/<domain>/<case>
      labels/<domain>/         labels of the labelled and the validation cases: one domain only
      test_images/<domain>/    images only, so that it can be given to inference as it is
      test_labels/<domain>/
      demo.json                version and seed; its presence says that the set is complete

Only one domain has labels to learn from. The test asks how well that carries over to the others.
"""

from dim_monai.data.demo.build import DEMO_SETS, MARKER, make_demo

__all__ = ["DEMO_SETS", "MARKER", "make_demo"]
