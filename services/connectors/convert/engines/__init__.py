"""What converts documents: the converter here, and services elsewhere; which one is asked, and when."""
